//! Fields of the report as text: `router.name`, or a text with `{{.Router.Name}}` in it.
//!
//! A path, not a language: what Weave Net's users wrote most is understood, with its spelling of
//! names, and anything else is refused with what to type in its place. So a caller costs the
//! router no more than the report itself.

use serde_json::Value;

/// Text with fields in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Format(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field { path: Vec<String>, as_json: bool },
}

/// Why a format is none, or names what is not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum FormatError {
    /// `{{` without `}}`.
    #[error("`{{{{` without `}}}}` in the format")]
    Open,
    /// More than a field.
    #[error("`{{{{{0}}}}}` is no field of the report")]
    NoField(String),
    /// A field that is not there.
    #[error("the report has no `{path}`; `{parent}` has {known}")]
    Unknown {
        /// As far as it was asked for.
        path: String,
        /// What was found.
        parent: String,
        /// What stands there.
        known: String,
    },
}

impl FormatError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Open | Self::Unknown { .. } => {
                "such as -f router.name, or -f '{{.Router.Name}} {{json .Router.Targets}}'"
            }
            Self::NoField(_) => {
                "templates of Go are not understood, only fields; for more: weave report | jq"
            }
        }
    }
}

impl Format {
    /// A format as it is typed.
    ///
    /// # Errors
    /// When it holds more than fields.
    pub(crate) fn parse(text: &str) -> Result<Self, FormatError> {
        if !text.contains("{{") && is_path(text) {
            return Ok(Self(vec![field(text)?]));
        }
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, behind) = after.split_once("}}").ok_or(FormatError::Open)?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(field(inside)?);
            rest = behind;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// The text with the fields of this report.
    ///
    /// # Errors
    /// When it has no such field.
    pub(crate) fn fill(&self, report: &Value) -> Result<String, FormatError> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Field { path, as_json } => {
                    text.push_str(&shown(find(report, path)?, *as_json));
                }
            }
        }
        Ok(text)
    }
}

fn is_path(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty() && text.chars().all(plain)
}

fn field(inside: &str) -> Result<Part, FormatError> {
    let inside = inside.trim();
    let (as_json, path) = match inside.strip_prefix("json ") {
        Some(path) => (true, path.trim()),
        None => (false, inside),
    };
    if !is_path(path) {
        return Err(FormatError::NoField(inside.to_owned()));
    }
    let names = path.split('.').filter(|name| !name.is_empty());
    Ok(Part::Field {
        path: names.map(str::to_owned).collect(),
        as_json,
    })
}

fn find<'a>(report: &'a Value, path: &[String]) -> Result<&'a Value, FormatError> {
    let mut found = report;
    for (depth, name) in path.iter().enumerate() {
        found = child(found, name).ok_or_else(|| FormatError::Unknown {
            path: path.get(..=depth).unwrap_or(path).join("."),
            parent: match path.get(..depth) {
                Some([]) | None => "it".to_owned(),
                Some(parent) => parent.join("."),
            },
            known: children(found),
        })?;
    }
    Ok(found)
}

fn child<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    if let Value::Array(items) = value {
        return items.get(name.parse::<usize>().ok()?);
    }
    let fields = value.as_object()?;
    let alike = || fields.iter().find(|(known, _)| same(known, name));
    fields.get(name).or_else(|| Some(alike()?.1))
}

/// `NickName`, `nick_name` and `nickname` are one name.
fn same(known: &str, name: &str) -> bool {
    let plain = |text: &str| text.replace(['_', '-'], "").to_ascii_lowercase();
    plain(known) == plain(name)
}

fn children(value: &Value) -> String {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            fields.keys().cloned().collect::<Vec<_>>().join(", ")
        }
        Value::Array(items) => format!("{} entries, counted from 0", items.len()),
        Value::Object(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            "no fields".to_owned()
        }
    }
}

fn shown(value: &Value, as_json: bool) -> String {
    match value.as_str() {
        Some(text) if !as_json => text.to_owned(),
        Some(_) | None => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn fill(format: &str) -> Result<String, String> {
        let report = json!({
            "version": "1.0", "ready": true,
            "router": {"name": "4a::1", "nickname": "nyc", "targets": ["a", "b"], "port": 6783},
            "ipam": {"default_subnet": "10.32.0.0/12"},
        });
        let format = Format::parse(format).map_err(|error| error.to_string())?;
        format.fill(&report).map_err(|error| error.to_string())
    }

    #[test]
    fn fields_are_found_under_our_names_and_under_those_of_weave_net() {
        for (format, expected) in [
            ("router.name", "4a::1"),
            (".Router.Name", "4a::1"),
            ("{{.Router.Name}}", "4a::1"),
            ("{{ .Router.NickName }}:{{.Router.Port}}\n", "nyc:6783\n"),
            ("{{.IPAM.DefaultSubnet}}", "10.32.0.0/12"),
            ("{{json .Router.Targets}}", r#"["a","b"]"#),
            ("{{json .Version}}", r#""1.0""#),
            ("router.targets.1", "b"),
            ("ready", "true"),
            ("plain text", "plain text"),
            ("", ""),
        ] {
            assert_eq!(fill(format).as_deref(), Ok(expected), "{format}");
        }
    }

    #[test]
    fn what_is_no_field_is_named_with_what_there_is() {
        for (format, expected) in [
            ("{{.Router.Name", "`{{` without `}}` in the format"),
            (
                "{{range .Router.Peers}}{{end}}",
                "`{{range .Router.Peers}}` is no field of the report",
            ),
            (
                "nosuch",
                "the report has no `nosuch`; `it` has ipam, ready, router, version",
            ),
            (
                "{{.IPAM.Range}}",
                "the report has no `IPAM.Range`; `IPAM` has default_subnet",
            ),
            (
                "router.targets.7",
                "the report has no `router.targets.7`; `router.targets` has 2 entries, counted from 0",
            ),
            (
                "version.major",
                "the report has no `version.major`; `version` has no fields",
            ),
        ] {
            assert_eq!(fill(format).unwrap_err(), expected, "{format}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_format_or_refused(text in "(\\{\\{|\\}\\}|[.a-zA-Z0-9 _]|\\PC){0,20}") {
            if let Err(error) = fill(&text) {
                prop_assert!(!error.is_empty());
            }
        }
    }
}
