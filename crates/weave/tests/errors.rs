//! Each error text of the program is provoked by a test, or stands in `unprovoked.txt`.
//!
//! Reads sources, runs nothing: a text counts as provoked when three words of it that follow each
//! other stand in a test, a snapshot or a script of the lab.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Calls whose first literal is an error text.
const MAKERS: [&str; 5] = [
    "ApiError::new(",
    "Failure::new(",
    "Failure::usage(",
    "#[error(",
    "anyhow!(",
];
/// Words that must be found in a row.
const WORDS: usize = 3;

fn files(dir: &Path, ends: &[&str], found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("read a directory") {
        let path = entry.expect("read an entry").path();
        if path.is_dir() {
            files(&path, ends, found);
        } else if ends.iter().any(|end| path.to_string_lossy().ends_with(end)) {
            found.push(path);
        }
    }
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests")
        || path.file_name().is_some_and(|name| name == "tests.rs")
}

/// The text of the program, and that of its tests.
fn sources() -> (String, String) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    files(&here.join("src"), &[".rs", ".snap"], &mut paths);
    files(&here.join("tests"), &[".rs"], &mut paths);
    files(&here.join("../../tests/lab"), &[".sh"], &mut paths);
    paths.sort();
    let (mut code, mut tests) = (String::new(), String::new());
    for path in paths
        .iter()
        .filter(|path| !path.ends_with("tests/errors.rs"))
    {
        let text = std::fs::read_to_string(path).expect("read a source");
        if is_test(path) || path.extension().is_some_and(|end| end != "rs") {
            tests.push_str(&text);
            continue;
        }
        let (program, test) = text
            .split_once("#[cfg(test)]\nmod tests {")
            .unwrap_or((&text, ""));
        code.push_str(program);
        tests.push_str(test);
    }
    (code, tests)
}

/// The literal that begins at a quote, without what continues a line.
fn literal(text: &str) -> Option<String> {
    let mut letters = text.strip_prefix('"')?.chars().peekable();
    let mut found = String::new();
    loop {
        match letters.next()? {
            '"' => return Some(found),
            '\\' => match letters.next()? {
                '\n' => while letters.next_if(|letter| letter.is_whitespace()).is_some() {},
                letter => found.push(letter),
            },
            letter => found.push(letter),
        }
    }
}

/// What stands between a parenthesis and the one that closes it.
fn arguments(text: &str) -> &str {
    let (mut depth, mut in_text, mut escaped) = (1, false, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => in_text = !in_text,
            '(' if !in_text => depth += 1,
            ')' if !in_text => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return text.get(..at).unwrap_or(text);
        }
    }
    text
}

/// The texts of errors. Where the words are made before, they are those of the last `let`.
fn texts(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for maker in MAKERS {
        for (at, _) in code.match_indices(maker) {
            let inside = arguments(code.get(at + maker.len()..).unwrap_or_default());
            let before = code.get(..at).unwrap_or_default();
            let made = before
                .rfind("let message =")
                .and_then(|from| before.get(from..));
            let place = match (inside.find('"'), made) {
                (Some(quote), _) => inside.get(quote..),
                (None, Some(made)) if inside.contains("message") => {
                    made.find('"').and_then(|quote| made.get(quote..))
                }
                (None, _) => None,
            };
            found.extend(place.and_then(literal).filter(|text| text.contains(' ')));
        }
    }
    found
}

/// The text without what differs each time.
fn fixed_parts(text: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for letter in text.chars() {
        match letter {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                parts.push(String::new());
            }
            letter if depth == 0 => parts.last_mut().expect("there is one").push(letter),
            _ => {}
        }
    }
    parts
}

fn is_provoked(text: &str, tests: &str) -> bool {
    fixed_parts(text).iter().any(|part| {
        let words: Vec<_> = part
            .split_whitespace()
            .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric() && c != '-'))
            .filter(|word| !word.is_empty())
            .collect();
        let least = words.len().clamp(1, WORDS);
        let long_enough = |run: &&[&str]| run.concat().len() >= 8;
        words
            .windows(least)
            .filter(long_enough)
            .any(|run| tests.contains(&run.join(" ")))
    })
}

#[test]
fn each_error_text_is_provoked_by_a_test_or_known_not_to_be() {
    let (code, tests) = sources();
    let texts = texts(&code);
    assert!(texts.len() > 100, "only {} texts found", texts.len());
    let unprovoked: BTreeSet<_> = texts
        .iter()
        .filter(|text| !is_provoked(text, &tests))
        .collect();
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/unprovoked.txt");
    if std::env::var_os("WEAVE_UPDATE_DOCS").is_some() {
        let lines: String = unprovoked
            .iter()
            .map(|text| format!("{}\n", text.escape_debug()))
            .collect();
        std::fs::write(&list, lines).expect("write the list");
    }
    let listed = std::fs::read_to_string(&list).expect("read the list");
    let listed: BTreeSet<_> = listed.lines().map(str::to_owned).collect();
    let unprovoked: BTreeSet<_> = unprovoked
        .iter()
        .map(|text| text.escape_debug().to_string())
        .collect();
    let new: Vec<_> = unprovoked.difference(&listed).collect();
    assert!(new.is_empty(), "no test provokes these: {new:#?}");
    let old: Vec<_> = listed.difference(&unprovoked).collect();
    assert!(old.is_empty(), "take these out of unprovoked.txt: {old:#?}");
}

#[test]
fn the_search_tells_what_is_provoked() {
    let code = r#"
        ApiError::new(ApiErrorKind::NotFound, "no such name was added here").with_hint("look");
        Failure::usage(format!("two containers named: `{first}` and `{second}`"));
        let message = format!("the bridge for {subnet} is missing");
        ApiError::new(ApiErrorKind::Internal, message);
    "#;
    let texts = texts(code);
    assert_eq!(texts.len(), 3, "{texts:?}");
    let provoked = |tests: &str| texts.iter().filter(|text| is_provoked(text, tests)).count();
    assert_eq!(provoked(""), 0);
    assert_eq!(provoked("error: no such name was added"), 1);
    assert_eq!(provoked("'two containers named'; the bridge for it"), 2);
}
