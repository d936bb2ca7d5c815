//! Help, manual pages, completions and documents tell of the same commands and flags.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use clap_complete::Shell;

use super::super::removed::REMOVED;
use super::*;

const DOCUMENT: &str = "../../docs/commands.md";
const TEXTS: [(&str, &str); 2] = [
    ("README.md", include_str!("../../../../../README.md")),
    (
        "docs/from-weave-net.md",
        include_str!("../../../../../docs/from-weave-net.md"),
    ),
];

/// `weave password add`, …, and their long flags. Hidden ones only if `all`.
fn surface(all: bool) -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    let mut command = Cli::command();
    command.build();
    collect(&command, "", all, &mut found);
    found
}

fn collect(
    command: &Command,
    before: &str,
    all: bool,
    found: &mut BTreeMap<String, BTreeSet<String>>,
) {
    let name = format!("{before}{}", command.get_name());
    let flags = command
        .get_arguments()
        .filter(|one| all || !one.is_hide_set());
    let flags = flags
        .filter_map(|one| one.get_long())
        .map(|long| format!("--{long}"));
    found.insert(name.clone(), flags.collect());
    for inner in command
        .get_subcommands()
        .filter(|one| all || !one.is_hide_set())
    {
        collect(inner, &format!("{name} "), all, found);
    }
}

/// Words that begin with two dashes.
fn flags_in(text: &str) -> BTreeSet<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let words = text.split(|c: char| !plain(c));
    let flags = words.filter(|word| word.starts_with("--") && word.len() > 2);
    flags.map(str::to_owned).collect()
}

#[test]
fn help_shows_each_command_and_flag() {
    let mut command = Cli::command();
    command.build();
    for (path, flags) in surface(false) {
        let mut inner = &mut command;
        for word in path.split(' ').skip(1) {
            inner = inner.find_subcommand_mut(word).unwrap();
        }
        let help = inner.render_long_help().to_string();
        let (_, options) = help.split_once("Options:").unwrap();
        let options = options.split("Example").next().unwrap();
        let lines = options
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with('-'));
        let shown = lines.map(|line| line.split("  ").next().unwrap_or_default());
        let shown: BTreeSet<_> = shown.flat_map(flags_in).collect();
        assert_eq!(shown, flags, "{path}");
    }
}

#[test]
fn manual_pages_show_each_command_and_flag() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path()).unwrap();
    let surface = surface(false);
    let pages: BTreeSet<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected: BTreeSet<_> = surface
        .keys()
        .map(|path| format!("{}.1", path.replace(' ', "-")))
        .collect();
    assert_eq!(pages, expected);
    for (path, flags) in surface {
        let page = dir.path().join(format!("{}.1", path.replace(' ', "-")));
        let page = std::fs::read_to_string(page).unwrap().replace("\\-", "-");
        let options = page.split(".SH OPTIONS").nth(1).unwrap();
        let options = options.split(".SH").next().unwrap();
        let heads = options.lines().filter(|line| line.starts_with("\\fB-"));
        let shown: BTreeSet<_> = heads
            .flat_map(|line| flags_in(&line.replace("\\fB", " ")))
            .collect();
        assert_eq!(shown, flags, "{path}");
        assert!(page.contains("Example"), "{path}");
    }
}

#[test]
fn completions_offer_each_command_and_flag() {
    let all: BTreeSet<_> = surface(false).into_values().flatten().collect();
    let script = completions(Shell::Bash);
    let offers = script
        .lines()
        .map(str::trim)
        .filter_map(|line| line.strip_prefix("opts=\""));
    let offered: BTreeSet<_> = offers.flat_map(flags_in).collect();
    assert_eq!(offered, all);
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let script = completions(shell);
        for path in surface(false).keys() {
            let word = path.rsplit(' ').next().unwrap();
            assert!(script.contains(word), "{shell}: {path}");
        }
    }
}

/// The reference, as it is to stand in `docs/commands.md`.
fn reference() -> String {
    let mut text = String::from(
        "# Commands\n\nWhat `weave --help` says of each command, without the examples. Made from the program: \
         after a change, run\n`WEAVE_UPDATE_DOCS=1 cargo test -p weave the_reference`.\n",
    );
    let mut command = Cli::command();
    command.build();
    describe(&command, "", &mut text);
    text
}

fn describe(command: &Command, before: &str, text: &mut String) {
    let name = format!("{before}{}", command.get_name());
    let about = command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    let _ = writeln!(text, "\n## `{name}`\n\n{about}.\n");
    for one in command.get_arguments().filter(|one| !one.is_hide_set()) {
        // said once, at the top
        if !before.is_empty() && one.is_global_set() {
            continue;
        }
        let values = one.get_value_names().unwrap_or_default().join(" ");
        let values = one.get_action().takes_values().then_some(values);
        let values = values.filter(|values| !values.is_empty());
        let shown = match (one.get_short(), one.get_long()) {
            (Some(short), Some(long)) => format!("-{short}, --{long}"),
            (Some(short), None) => format!("-{short}"),
            (None, Some(long)) => format!("--{long}"),
            (None, None) => String::new(),
        };
        let shown = [Some(shown), values]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" ");
        let help = one.get_help().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(text, "- `{}`: {help}", shown.trim());
    }
    for inner in command.get_subcommands().filter(|one| !one.is_hide_set()) {
        describe(inner, &format!("{name} "), text);
    }
}

#[test]
fn the_reference_in_the_documents_is_what_the_program_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT);
    if std::env::var_os("WEAVE_UPDATE_DOCS").is_some() {
        std::fs::write(&path, reference()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        written,
        reference(),
        "run WEAVE_UPDATE_DOCS=1 cargo test -p weave the_reference"
    );
}

/// What stands in code spans and indented or fenced blocks.
fn code_of(text: &str) -> Vec<String> {
    let (mut code, mut in_block) = (Vec::new(), false);
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            code.push(line.to_owned());
        } else {
            code.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    code
}

#[test]
fn the_documents_name_no_command_or_flag_that_there_is_not() {
    let surface = surface(true);
    let mut checked = 0;
    for (file, text) in TEXTS {
        for line in code_of(text) {
            let command = line.split(['#', '|', ';', '&']).next().unwrap_or_default();
            let words: Vec<_> = command
                .split_whitespace()
                .skip_while(|word| *word != "weave")
                .collect();
            let ["weave", verb, rest @ ..] = words.as_slice() else {
                continue;
            };
            if !verb.starts_with(|c: char| c.is_ascii_lowercase())
                || REMOVED.iter().any(|(name, _)| name == verb)
            {
                continue;
            }
            let inner = rest.first().map(|word| format!("weave {verb} {word}"));
            let flags = inner
                .and_then(|path| surface.get(&path))
                .or_else(|| surface.get(&format!("weave {verb}")));
            let Some(flags) = flags else {
                // `weave` is the name of a network, a bridge and a container, too
                assert!(!command.trim_start().starts_with("weave"), "{file}: {line}");
                continue;
            };
            for flag in rest.iter().flat_map(|word| flags_in(word)) {
                assert!(flags.contains(&flag), "{file}: {flag} in {line}");
            }
            checked += 1;
        }
    }
    assert!(checked > 40, "{checked}");
}
