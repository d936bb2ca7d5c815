//! `docs/openapi.json` and the server say the same.

use std::collections::BTreeSet;

use super::*;

const DOCUMENT: &str = include_str!("../../../../../docs/openapi.json");
const METHODS: [&str; 4] = ["get", "post", "put", "delete"];

fn document() -> Value {
    serde_json::from_str(DOCUMENT).unwrap()
}

/// `GET /status`, …: of the operations that are `meant`.
fn operations(meant: impl Fn(&Value) -> bool) -> BTreeSet<String> {
    let document = document();
    let mut found = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(METHODS.contains(&method.as_str()), "{method} {path}");
            if meant(operation) {
                found.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
    }
    found
}

fn listed(routes: &routes::Routes<Arc<Fake>>) -> BTreeSet<String> {
    let listed = routes.list().iter();
    listed
        .map(|(method, path)| format!("{method} {path}"))
        .collect()
}

#[test]
fn each_route_stands_in_the_document_and_the_other_way_round() {
    assert_eq!(operations(|_| true), listed(&server::routes()));
    let on_page = |operation: &Value| operation["tags"] == json!(["page"]);
    assert_eq!(
        operations(on_page),
        listed(&read::add(routes::Routes::new()))
    );
}

/// What the document says of a value, with nothing besides.
fn check(schema: &Value, value: &Value, document: &Value) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.trim_start_matches("#/components/schemas/");
        let named = &document["components"]["schemas"][name];
        assert!(named.is_object(), "no schema {name}");
        return check(named, value, document);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let fits = choices
            .iter()
            .filter(|one| check(one, value, document).is_ok());
        return (fits.count() == 1)
            .then_some(())
            .ok_or_else(|| format!("{value} is none of {schema}"));
    }
    let of_type = match schema["type"].as_str() {
        None => true,
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        Some(other) => panic!("type {other}"),
    };
    if !of_type {
        return Err(format!("{value} is not {schema}"));
    }
    if let Some(allowed) = schema["enum"].as_array().filter(|all| !all.contains(value)) {
        return Err(format!("{value} is none of {allowed:?}"));
    }
    for item in value.as_array().into_iter().flatten() {
        check(&schema["items"], item, document)?;
    }
    check_fields(schema, value, document)
}

fn check_fields(schema: &Value, value: &Value, document: &Value) -> Result<(), String> {
    for name in schema["required"].as_array().into_iter().flatten() {
        if value.get(name.as_str().unwrap()).is_none() {
            return Err(format!("{value} has no {name}"));
        }
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let properties = &schema["properties"];
        let known = match properties.get(name) {
            Some(known) => known,
            None => &schema["additionalProperties"],
        };
        if known.is_null() && schema["type"] == "object" && schema["properties"].is_object() {
            return Err(format!("nothing is said of {name}"));
        }
        check(known, field, document)?;
    }
    Ok(())
}

/// The example for this status, else for the one that stands for success, else none.
fn example<'a>(of: &'a Value, status: &str) -> Option<&'a Value> {
    let examples = of["examples"].as_object()?;
    let named = ["200", "204"].iter().find_map(|ok| examples.get(*ok));
    let exact = examples.get(status);
    // what a query says besides is left out where an error has no example of it
    let fallback = named.filter(|_| of["in"] != "query" || status.starts_with('2'));
    exact.or(fallback).map(|example| &example["value"])
}

/// A request that the document says ends so.
fn asked(method: &str, path: &str, operation: &Value, status: &str, accept: &str) -> String {
    let (mut path, mut query) = (path.to_owned(), Vec::new());
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap();
        let Some(value) = example(parameter, status) else {
            continue;
        };
        let value = client::escape(value.as_str().unwrap());
        match parameter["in"].as_str().unwrap() {
            "path" => path = path.replace(&format!("{{{name}}}"), &value),
            "query" if name == "format" && status == "200" && accept != "text/plain" => {}
            "query" => query.push(format!("{name}={value}")),
            other => panic!("{other}"),
        }
    }
    assert!(!path.contains('{'), "{path}: no example");
    let content = &operation["requestBody"]["content"];
    let form = content["application/x-www-form-urlencoded"].is_object();
    let (kind, body) = match example(&content["application/json"], status) {
        Some(_) if form && accept == "text/plain" => (
            "application/x-www-form-urlencoded",
            "peer=192.0.2.1".to_owned(),
        ),
        Some(body) => ("application/json", body.to_string()),
        None => ("application/json", "null".to_owned()),
    };
    let query = match query.is_empty() {
        true => String::new(),
        false => format!("?{}", query.join("&")),
    };
    format!(
        "{} {path}{query} HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\n\
         content-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
        method.to_uppercase(),
        body.len()
    )
}

struct Answered {
    status: String,
    kind: String,
    body: String,
}

async fn ask(socket: &Path, request: &str) -> Answered {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let kind = head
        .lines()
        .find_map(|line| line.strip_prefix("content-type: "));
    let kind = kind
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    Answered {
        status: head[9..12].to_owned(),
        kind: kind.to_owned(),
        body: body.to_owned(),
    }
}

#[tokio::test]
async fn each_operation_answers_with_the_statuses_and_shapes_that_the_document_says() {
    let document = document();
    // what one of them has no reason to say, the other has
    let rigs = [rig_of(Fake::full()), rig_of(Fake::bare())];
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            for (status, response) in operation["responses"].as_object().unwrap() {
                let kinds: Vec<_> = match response["content"].as_object() {
                    Some(content) => content.iter().map(|(k, v)| (k.as_str(), Some(v))).collect(),
                    None => vec![("*/*", None)],
                };
                for (kind, content) in kinds {
                    let request = asked(method, path, operation, status, kind);
                    let mut seen = Vec::new();
                    for rig in &rigs {
                        let answered = ask(&rig.socket, &request).await;
                        seen.push(answered.status.clone());
                        if answered.status == *status {
                            check_answer(&request, &answered, kind, content, &document);
                        }
                    }
                    assert!(
                        seen.contains(status),
                        "{status} not among {seen:?}: {request}"
                    );
                }
            }
        }
    }
}

fn check_answer(
    request: &str,
    answered: &Answered,
    kind: &str,
    content: Option<&Value>,
    document: &Value,
) {
    let Some(content) = content else {
        assert_eq!(answered.body, "", "{request}");
        return;
    };
    assert_eq!(answered.kind, kind, "{request}: {}", answered.body);
    if kind == "application/json" {
        let body = serde_json::from_str(&answered.body).unwrap();
        if let Err(why) = check(&content["schema"], &body, document) {
            panic!("{request}: {why}");
        }
    }
}

#[test]
fn examples_of_requests_have_the_shape_that_the_document_asks_for() {
    let document = document();
    let mut checked = 0;
    for methods in document["paths"].as_object().unwrap().values() {
        for operation in methods.as_object().unwrap().values() {
            let content = &operation["requestBody"]["content"]["application/json"];
            if let Some(body) = example(content, "200") {
                check(&content["schema"], body, &document).unwrap();
                checked += 1;
            }
        }
    }
    assert!(checked > 8, "{checked}");
}

#[test]
fn the_check_of_shapes_finds_what_is_wrong() {
    let document = json!({"components": {"schemas": {"A": {"type": "string"}}}});
    let schema = json!({"type": "object", "required": ["a"], "properties": {
        "a": {"$ref": "#/components/schemas/A"},
        "b": {"type": "array", "items": {"type": "integer"}},
        "c": {"oneOf": [{"type": "string", "enum": ["x"]}, {"type": "null"}]},
    }});
    for (value, fits) in [
        (json!({"a": ""}), true),
        (json!({"a": "", "b": [1], "c": "x"}), true),
        (json!({"a": "", "c": null}), true),
        (json!({}), false),
        (json!({"a": 1}), false),
        (json!({"a": "", "b": [1, "2"]}), false),
        (json!({"a": "", "c": "y"}), false),
        (json!({"a": "", "d": 1}), false),
        (json!([]), false),
    ] {
        assert_eq!(check(&schema, &value, &document).is_ok(), fits, "{value}");
    }
}
