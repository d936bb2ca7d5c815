//! Queries and forms: `name=value&name=value`, escaped as browsers do it.

use super::client::unescape;

/// Names and values in the order given. Any text is one.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// Of this text.
    pub(super) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let plain = |part: &str| unescape(&part.replace('+', " "));
        let pairs = pairs.map(|pair| match pair.split_once('=') {
            Some((name, value)) => (plain(name), plain(value)),
            None => (plain(pair), String::new()),
        });
        Self(pairs.collect())
    }

    /// The same with what stands in `other`.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The first value of this name.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        pairs.find_map(|(known, value)| (known == name).then_some(value.as_str()))
    }

    /// All values of this name.
    pub(super) fn values(&self, name: &str) -> Vec<String> {
        let pairs = self.0.iter().filter(|(known, _)| known == name);
        pairs.map(|(_, value)| value.clone()).collect()
    }

    /// Whether the value is what Weave Net takes for yes.
    pub(super) fn says_yes(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| value == "true")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_found_by_name_unescaped_and_in_order() {
        let form = Form::parse("peer=a%3A1&replace=true&peer=b+c&&odd&fqdn=");
        assert_eq!(form.values("peer"), ["a:1", "b c"]);
        assert_eq!(form.value("odd"), Some(""));
        assert_eq!(form.value("fqdn"), Some(""));
        assert_eq!(form.value("nosuch"), None);
        assert!(form.says_yes("replace") && !form.says_yes("peer"));
        let both = Form::parse("a=1").and(Form::parse("a=2"));
        assert_eq!(both.values("a"), ["1", "2"]);
    }

    proptest! {
        #[test]
        fn any_text_is_a_form(text in any::<String>()) {
            let _ = Form::parse(&text);
        }
    }
}
