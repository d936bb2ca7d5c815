//! Rules that hold for the workspace as a whole, seen in its manifests and sources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use cargo_metadata::camino::Utf8PathBuf;
use cargo_metadata::{Metadata, MetadataCommand, Package};

/// Crates whose behaviour follows from their inputs alone.
const PURE: [&str; 3] = ["weave-wire", "weave-crypto", "weave-node"];

/// What no PURE crate may see: runtimes, the operating system, clocks, randomness.
const IMPURE: [&str; 13] = [
    "chrono",
    "getrandom",
    "hyper",
    "libc",
    "mio",
    "nix",
    "rand",
    "rtnetlink",
    "rustix",
    "socket2",
    "time",
    "tokio",
    "weave-sys",
];

/// The same for the standard library.
const IMPURE_STD: [&str; 9] = [
    "Instant",
    "SystemTime",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "std::env",
    "std::fs",
    "std::process",
    "std::thread",
];

/// Which crates of ours each crate of ours may depend on.
const LAYERS: [(&str, &[&str]); 9] = [
    ("weave-wire", &[]),
    ("weave-crypto", &["weave-wire"]),
    ("weave-node", &["weave-crypto", "weave-wire"]),
    ("weave-sys", &[]),
    ("weave-docker", &["weave-wire"]),
    (
        "weave",
        &[
            "weave-crypto",
            "weave-docker",
            "weave-node",
            "weave-sys",
            "weave-wire",
        ],
    ),
    ("weave-sim", &["weave-crypto", "weave-node", "weave-wire"]),
    (
        "weave-fuzz",
        &["weave-crypto", "weave-node", "weave-sim", "weave-wire"],
    ),
    ("xtask", &["weave-fuzz", "weave-sim"]),
];

fn metadata() -> &'static Metadata {
    static METADATA: OnceLock<Metadata> = OnceLock::new();
    METADATA.get_or_init(|| {
        MetadataCommand::new()
            .manifest_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml"))
            .other_options(["--filter-platform", "x86_64-unknown-linux-gnu"].map(String::from))
            .exec()
            .expect("cargo metadata works")
    })
}

fn member(name: &str) -> &'static Package {
    let mut members = metadata().workspace_packages().into_iter();
    members
        .find(|package| package.name == name)
        .unwrap_or_else(|| panic!("no crate {name} in the workspace"))
}

fn directory(package: &Package) -> &Path {
    let manifest = package.manifest_path.as_std_path();
    manifest.parent().expect("a manifest is in a directory")
}

/// The name of every package that is linked into a crate of ours, tests apart.
fn linked_into(name: &str) -> BTreeSet<String> {
    let manifest = metadata().workspace_root.join("Cargo.toml");
    let told = Command::new(env!("CARGO"))
        .args(["tree", "--edges", "normal", "--prefix", "none"])
        .args(["--target", "x86_64-unknown-linux-gnu", "--package", name])
        .arg("--manifest-path")
        .arg(manifest.as_std_path())
        .output()
        .expect("cargo tree runs");
    let why = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success(), "{why}");
    let lines = String::from_utf8(told.stdout).expect("names are text");
    let names = lines.lines().filter_map(|line| line.split(' ').next());
    names.map(str::to_owned).collect()
}

/// The Rust files of a directory, and of those in it.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a directory of sources");
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.expect("a readable directory").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether `word` stands in `text` with nothing around it that could belong to it.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part)
    })
}

#[test]
fn a_pure_crate_sees_no_runtime_no_socket_no_clock_and_no_randomness() {
    for name in PURE {
        let linked = linked_into(name);
        assert!(linked.contains("blake2"), "the graph is walked");
        let impure: Vec<_> = IMPURE.iter().filter(|it| linked.contains(**it)).collect();
        assert!(
            impure.is_empty(),
            "{impure:?}: `cargo tree -p {name} -e normal -i …` says why"
        );
    }
    let shell = linked_into("weave");
    assert!(
        shell.contains("tokio") && shell.contains("getrandom"),
        "the walk finds what there is to find"
    );
}

#[test]
fn the_source_of_a_pure_crate_names_no_clock_no_socket_and_no_thread() {
    for name in PURE {
        let root = directory(member(name)).join("src");
        let is_test = |path: &PathBuf| {
            let inside = path.strip_prefix(&root).expect("it was found there");
            inside.to_string_lossy().contains("tests")
        };
        let files = sources(&root).into_iter().filter(|path| !is_test(path));
        for path in files {
            let text = read(&path);
            let code = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            for line in code {
                let word = IMPURE_STD.iter().find(|word| has_word(line, word));
                assert_eq!(word, None, "{}: {line}", path.display());
            }
        }
    }
}

#[test]
fn unsafe_code_is_forbidden_in_every_crate_but_weave_sys() {
    let root = read(metadata().workspace_root.join("Cargo.toml").as_std_path());
    // for tests and benches, which are crates of their own
    assert!(root.lines().any(|line| line == r#"unsafe_code = "deny""#));
    for package in metadata().workspace_packages() {
        let manifest = read(package.manifest_path.as_std_path());
        assert!(
            manifest.contains("[lints]\nworkspace = true\n"),
            "{} has lints of its own",
            package.name
        );
        if package.name == "weave-sys" {
            continue;
        }
        let roots = package.targets.iter().map(|target| &target.src_path);
        let in_src = |path: &&Utf8PathBuf| path.components().any(|part| part.as_str() == "src");
        for path in roots.filter(in_src) {
            let forbids = |line: &str| line.trim() == "#![forbid(unsafe_code)]";
            assert!(read(path.as_std_path()).lines().any(forbids), "{path}");
        }
        for path in sources(&directory(package).join("src")) {
            let text: String = read(&path).split_whitespace().collect();
            let mut others = text
                .match_indices("unsafe_code")
                .filter(|(at, _)| !text[..*at].ends_with("forbid("));
            assert_eq!(others.next(), None, "{}", path.display());
        }
    }
}

#[test]
fn dependencies_between_our_crates_point_one_way() {
    let members = metadata().workspace_packages();
    let layers = BTreeMap::from(LAYERS);
    let names: BTreeSet<_> = members
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    assert_eq!(
        names,
        layers.keys().copied().collect(),
        "every crate has its place in LAYERS"
    );
    for package in &members {
        let ours = package.dependencies.iter().map(|used| used.name.as_str());
        for used in ours.filter(|used| names.contains(used)) {
            assert!(
                layers[package.name.as_str()].contains(&used),
                "{} may not depend on {used}",
                package.name
            );
        }
    }
    // what LAYERS allows has no cycle: a crate uses only crates that are lower
    let mut lower = BTreeSet::new();
    for (name, uses) in LAYERS {
        assert!(uses.iter().all(|used| lower.contains(used)), "{name}");
        lower.insert(name);
    }
}

#[test]
fn every_package_comes_from_crates_io_or_from_here() {
    for package in &metadata().packages {
        let is_ours = metadata().workspace_members.contains(&package.id);
        match &package.source {
            Some(source) => assert!(source.is_crates_io(), "{}: {source}", package.id),
            None => assert!(is_ours, "{} is outside the workspace", package.id),
        }
    }
}

/// Whether a licence can be had without a copyleft one; an SPDX expression, or the older
/// `A/B`. None when it cannot be read.
fn is_permissive(expression: &str) -> Option<bool> {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let result = either(&mut words)?;
    words.next().is_none().then_some(result)
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn either(words: &mut Words<'_>) -> Option<bool> {
    let mut result = both(words)?;
    while words.next_if_eq(&"OR").is_some() {
        result |= both(words)?;
    }
    Some(result)
}

fn both(words: &mut Words<'_>) -> Option<bool> {
    let mut result = one(words)?;
    while words.next_if_eq(&"AND").is_some() {
        result &= one(words)?;
    }
    Some(result)
}

fn one(words: &mut Words<'_>) -> Option<bool> {
    match words.next()? {
        "(" => {
            let result = either(words)?;
            words.next_if_eq(&")").map(|_| result)
        }
        ")" | "AND" | "OR" | "WITH" => None,
        licence => {
            if words.next_if_eq(&"WITH").is_some() {
                words.next()?;
            }
            Some(
                !["GPL", "LGPL", "AGPL"]
                    .iter()
                    .any(|copyleft| licence.starts_with(copyleft)),
            )
        }
    }
}

#[test]
fn no_package_is_under_a_copyleft_licence_alone() {
    for package in &metadata().packages {
        let licence = package.license.as_deref().unwrap_or_default();
        assert_eq!(
            is_permissive(licence),
            Some(true),
            "{}: `{licence}`",
            package.id
        );
    }
}

#[test]
fn a_licence_with_a_choice_is_permissive_when_one_of_the_choices_is() {
    for (licence, expected) in [
        ("MIT", Some(true)),
        ("MIT/Apache-2.0", Some(true)),
        ("MIT OR LGPL-2.1-or-later", Some(true)),
        ("(GPL-2.0 OR MIT) AND BSD-3-Clause", Some(true)),
        ("GPL-2.0 AND MIT OR ISC", Some(true)),
        ("Apache-2.0 WITH LLVM-exception", Some(true)),
        ("GPL-3.0-only", Some(false)),
        ("AGPL-3.0 OR LGPL-3.0", Some(false)),
        (
            "MIT AND GPL-2.0-only WITH Classpath-exception-2.0",
            Some(false),
        ),
        ("GPL-2.0 AND (MIT OR ISC)", Some(false)),
        ("", None),
        ("(MIT", None),
        ("MIT ISC", None),
    ] {
        assert_eq!(is_permissive(licence), expected, "{licence}");
    }
}
