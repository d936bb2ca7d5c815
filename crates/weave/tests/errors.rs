//! Each error text of the program is provoked by a test.
//!
//! Reads sources, runs nothing: a text counts as provoked when three words of it that follow each
//! other, and that no other text has, stand on a line of a test, a snapshot or a script of the lab;
//! or when all of it does, but for what differs each time. Comments, the names of checks and errors
//! that a test makes itself do not count. A text without a word of its own says what another one
//! says, and is not looked for.

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
                'n' => found.push('\n'),
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
            let says_something = |text: &String| !words(&fixed_parts(text).concat()).is_empty();
            let text = place.and_then(literal).filter(says_something);
            found.extend(text.filter(|text| text.contains(' ')));
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

/// The words of a text, without what stands around them.
fn words(text: &str) -> Vec<&str> {
    text.split_whitespace()
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric() && c != '-'))
        .filter(|word| !word.is_empty())
        .collect()
}

/// What tests say, line by line and as words.
fn said(tests: &str) -> Vec<String> {
    let lines = tests.lines().map(str::trim_start);
    let lines = lines.filter(|line| !line.starts_with("//") && !line.starts_with("# "));
    // nor do errors that a test makes itself
    let lines = lines.filter(|line| !MAKERS.iter().any(|maker| line.contains(maker)));
    // of a check in the lab: its name is no more than a comment
    let lines = lines.map(|line| match line.strip_prefix("check \"") {
        Some(check) => check.split_once('"').map_or("", |(_, rest)| rest),
        None => line,
    });
    lines.map(|line| words(line).join(" ")).collect()
}

fn is_provoked(text: &str, texts: &BTreeSet<String>, said: &[String]) -> bool {
    const LEAST: usize = 8;
    let parts = fixed_parts(text);
    let parts: Vec<_> = parts.iter().map(|part| words(part)).collect();
    let others = texts.iter().filter(|other| *other != text);
    let others: Vec<_> = others.map(|other| words(other).join(" ")).collect();
    let has = |texts: &[String], run: &str| texts.iter().any(|text| text.contains(run));
    let is_said = |run: &[&str]| {
        let is_long = run.concat().len() >= LEAST;
        let run = run.join(" ");
        is_long && !has(&others, &run) && has(said, &run)
    };
    let some_run = |part: &Vec<&str>| part.windows(WORDS).any(is_said);
    let in_order = |line: &String| {
        let mut rest = Some(line.as_str());
        for part in &parts {
            rest = rest.and_then(|rest| Some(rest.split_once(&part.join(" "))?.1));
        }
        rest.is_some()
    };
    let is_long = parts.concat().concat().len() >= LEAST;
    parts.iter().any(some_run) || is_long && said.iter().any(in_order)
}

#[test]
fn each_error_text_is_provoked_by_a_test() {
    let (code, tests) = sources();
    let (texts, said) = (texts(&code), said(&tests));
    assert!(texts.len() > 100, "only {} texts found", texts.len());
    let unprovoked: Vec<_> = texts
        .iter()
        .filter(|text| !is_provoked(text, &texts, &said))
        .collect();
    assert!(
        unprovoked.is_empty(),
        "no test provokes these: {unprovoked:#?}"
    );
}

#[test]
fn the_search_tells_what_is_provoked() {
    let code = r#"
        ApiError::new(ApiErrorKind::NotFound, "no such name was added here").with_hint("look");
        Failure::usage(format!("two containers named: `{first}` and `{second}`"));
        Failure::usage(format!("{option}: {why}"));
        Failure::new(format!("no peer `{text}` is known"));
        let message = format!("the bridge for {subnet} is missing");
        ApiError::new(ApiErrorKind::Internal, message);
    "#;
    let texts = texts(code);
    assert_eq!(texts.len(), 4, "{texts:?}");
    let provoked = |tests: &str| {
        let said = said(tests);
        texts
            .iter()
            .filter(|text| is_provoked(text, &texts, &said))
            .count()
    };
    assert_eq!(provoked(""), 0);
    assert_eq!(provoked("error: no such name was added"), 1);
    assert_eq!(provoked("'two containers named'; the bridge for it"), 2);
    assert_eq!(provoked("it says no peer\nand is known"), 0);
    assert_eq!(provoked("'no peer `nosuch` is known'"), 1);
    assert_eq!(provoked("// two containers named: a and b"), 0);
    assert_eq!(provoked("# no such name was added"), 0);
    assert_eq!(provoked("ApiError::new(kind, \"no such name was added"), 0);
    assert_eq!(provoked("check \"two containers named\" fails 2"), 0);
    assert_eq!(provoked("check \"two\" says 'two containers named'"), 1);
}
