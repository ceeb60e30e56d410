//! Plain words for what serde says, and the nearest known name for a misspelt one.

/// The expectations of serde, in the words of an operator.
const EXPECTED: &[(&str, &str)] = &[
    ("a boolean", "true or false"),
    ("a map", "a mapping"),
    ("a sequence", "a list"),
    ("a string", "text"),
    ("f64", "a number"),
    ("i64", "a whole number"),
    ("path string", "text"),
    ("string or map", "text or a mapping"),
    ("u16", "a whole number, 0 or more"),
    ("u32", "a whole number from 0 to 4294967295"),
    ("u64", "a whole number, 0 or more"),
    ("usize", "a whole number, 0 or more"),
];

/// The kinds of values of serde, in the words of an operator.
const FOUND: &[(&str, &str)] = &[
    ("string ", "the text "),
    ("integer ", "the number "),
    ("floating point ", "the number "),
    ("boolean ", ""),
    ("sequence", "a list"),
    ("map", "a mapping"),
    ("null", "nothing"),
    ("unit value", "nothing"),
];

/// Keys that had another spelling once: the old one, a key beside which it stood, and the mend.
const RESPELT: &[(&str, &str, &str)] = &[
    ("secret_files", "secrets", "write each file as {file: PATH} under \"secrets\""),
    ("key_file", "sha256", "write \"key: {file: PATH}\""),
    ("key_file", "origins", "write \"key: {file: PATH}\""),
];

/// The key that `message` calls unknown, in serde's words or in ours.
pub(crate) fn unknown_key(message: &str) -> Option<&str> {
    let rest = message.strip_prefix("unknown field ").or_else(|| message.strip_prefix("unknown key "))?;
    rest.split(['`', '"']).nth(1)
}

/// Says in plain words what serde's `message` says, with the nearest known name where one is unknown.
pub(crate) fn plain(message: &str) -> String {
    if let Some(rest) = message.strip_prefix("unknown field ") {
        return with_nearest(rest, |name| format!("unknown key \"{name}\""));
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        return with_nearest(rest, |name| format!("unknown value \"{name}\""));
    }
    if let Some(name) = message.strip_prefix("missing field ") {
        return format!("the key \"{}\" is missing", name.trim_matches('`'));
    }
    mismatch(message).unwrap_or_else(|| message.to_owned())
}

/// `what` for an unknown `name`, and the mend: the nearest of `known`, or all of them.
pub(crate) fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    match (nearest(name, known), known) {
        (Some(near), _) => format!("unknown {what} \"{name}\"; did you mean \"{near}\"?"),
        (None, []) => format!("unknown {what} \"{name}\"; none is known here"),
        (None, known) => format!("unknown {what} \"{name}\"; known here: {}", known.join(", ")),
    }
}

fn with_nearest(rest: &str, what: impl Fn(&str) -> String) -> String {
    let mut names = rest.split('`').skip(1).step_by(2);
    let name = names.next().unwrap_or_default();
    let known: Vec<&str> = names.collect();
    if let Some((_, _, mend)) = RESPELT.iter().find(|(old, beside, _)| *old == name && known.contains(beside))
    {
        return format!("{}; {mend}", what(name));
    }
    match (nearest(name, &known), known.as_slice()) {
        (Some(near), _) => format!("{}; did you mean \"{near}\"?", what(name)),
        (None, []) => format!("{}; remove it", what(name)),
        (None, known) => format!("{}; known here: {}", what(name), known.join(", ")),
    }
}

/// The known name that a misspelt one most likely meant: at most a third of its letters differ.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let folded = name.to_lowercase();
    let allowed = (folded.chars().count() / 3).max(1);
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&folded, candidate), *candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn mismatch(message: &str) -> Option<String> {
    let rest = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "))?;
    let (found, expected) = rest.rsplit_once(", expected ")?;
    let expected = EXPECTED.iter().find(|(serde, _)| *serde == expected).map_or(expected, |(_, plain)| plain);
    let found = FOUND
        .iter()
        .find_map(|(serde, plain)| Some(format!("{plain}{}", found.strip_prefix(serde)?)))
        .unwrap_or_else(|| found.to_owned());
    Some(format!("expected {expected}, found {}", found.replace('`', "")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::{Value, json};

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    #[allow(dead_code)]
    struct Sample {
        threshold: u32,
        enabled: bool,
        mode: crate::settings::Mode,
    }

    fn said(typed: Value) -> String {
        plain(&serde_json::from_value::<Sample>(typed).unwrap_err().to_string())
    }

    #[test]
    fn serde_speaks_plainly() {
        assert_eq!(said(json!({"treshold": 1})), "unknown key \"treshold\"; did you mean \"threshold\"?");
        assert_eq!(said(json!({"zzz": 1})), "unknown key \"zzz\"; known here: threshold, enabled, mode");
        assert_eq!(
            said(json!({"mode": "enforced"})),
            "unknown value \"enforced\"; did you mean \"enforce\"?"
        );
        assert_eq!(said(json!({"enabled": "yes"})), "expected true or false, found the text \"yes\"");
        assert_eq!(
            said(json!({"threshold": -1})),
            "expected a whole number from 0 to 4294967295, found the number -1"
        );
        assert_eq!(
            said(json!({"threshold": [1]})),
            "expected a whole number from 0 to 4294967295, found a list"
        );
    }

    #[test]
    fn only_near_names_are_proposed() {
        assert_eq!(nearest("Listen", &["listen", "limits"]), Some("listen"));
        assert_eq!(nearest("lsiten", &["listen", "limits"]), Some("listen"));
        assert_eq!(nearest("upstream", &["listen", "limits"]), None);
    }
}
