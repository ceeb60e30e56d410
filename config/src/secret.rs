//! A secret in a part's parameters: where it is, never what it is.
//!
//! Parameters hold the place only, so no dump, message or comparison of them can show the secret itself.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use crate::files;
use crate::settings::Secret;

/// What is said of a secret that stands in the configuration itself.
pub const LITERAL: &str = "a secret does not stand in the configuration; write ${NAME} for the environment variable NAME, or {file: PATH}";

/// Where a secret is: `${NAME}` for the environment variable NAME, or `{file: PATH}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In an environment variable.
    Environment(String),
    /// In a file; white space around it is ignored.
    File(PathBuf),
}

impl SecretSource {
    /// The secret itself.
    ///
    /// # Errors
    /// The variable is not set, the file cannot be read, or nothing is in it.
    pub fn reveal(&self, environment: &dyn Fn(&str) -> Option<String>) -> Result<Secret, String> {
        let (text, place) = match self {
            Self::Environment(name) => (environment(name).ok_or_else(|| not_set(name))?, name.clone()),
            Self::File(file) => (files::text(file)?, file.display().to_string()),
        };
        match text.trim() {
            "" => Err(format!("{place} is empty; put the secret into it")),
            secret => Ok(Secret::new(secret.to_owned())),
        }
    }

    /// The environment variable that `text` stands for, if it is written as one.
    #[must_use]
    pub fn variable(text: &str) -> Option<&str> {
        let name = text.strip_prefix("${")?.strip_suffix('}')?;
        let mut letters = name.chars();
        let sound = letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
            && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        sound.then_some(name)
    }
}

/// What is said of a variable that is missing.
#[must_use]
pub fn not_set(name: &str) -> String {
    format!("the environment variable {name} is not set; export it before the start")
}

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let typed = Value::deserialize(deserializer)?;
        // What was typed may be the secret: no message repeats it.
        let read = match &typed {
            Value::String(text) => Self::variable(text).map(|name| Self::Environment(name.to_owned())),
            Value::Object(keys) if keys.len() == 1 => {
                keys.get("file").and_then(Value::as_str).map(|file| Self::File(Path::new(file).to_owned()))
            }
            _ => None,
        };
        read.ok_or_else(|| D::Error::custom(LITERAL))
    }
}

impl Serialize for SecretSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Environment(name) => serializer.collect_str(&format_args!("${{{name}}}")),
            Self::File(file) => json!({ "file": file }).serialize(serializer),
        }
    }
}

impl JsonSchema for SecretSource {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "`${NAME}` for the environment variable NAME, or `{file: PATH}`.",
            "oneOf": [
                {"type": "string", "pattern": r"^\$\{[A-Za-z_][A-Za-z0-9_]*\}$"},
                {
                    "type": "object", "additionalProperties": false, "required": ["file"],
                    "properties": {"file": {"type": "string", "description": "File that holds the secret."}},
                },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::from_value;

    use super::*;

    #[test]
    fn a_secret_is_read_from_where_it_is_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "hunter2\n").unwrap();
        let environment = |name: &str| (name == "TOKEN").then(|| " hunter2 ".to_owned());
        for typed in [json!("${TOKEN}"), json!({ "file": file })] {
            let source: SecretSource = from_value(typed.clone()).unwrap();
            assert_eq!(source.reveal(&environment).unwrap().reveal(), "hunter2", "{typed}");
            assert_eq!(serde_json::to_value(&source).unwrap(), typed, "it is written as it was typed");
            assert!(!format!("{source:?} {:?}", source.reveal(&environment)).contains("hunter2"));
        }
        std::fs::write(&file, "\n").unwrap();
        let empty = SecretSource::File(file);
        assert!(empty.reveal(&environment).unwrap_err().contains("is empty"));
        let missing = SecretSource::Environment("OTHER".into());
        assert!(missing.reveal(&environment).unwrap_err().contains("OTHER is not set"));
    }

    #[test]
    fn a_literal_is_refused_and_not_repeated() {
        for typed in [
            json!("hunter2"),
            json!("${hunter2"),
            json!("${}"),
            json!("${a b}"),
            json!(42),
            json!(["hunter2"]),
        ] {
            let said = from_value::<SecretSource>(typed.clone()).unwrap_err().to_string();
            assert_eq!(said, LITERAL, "{typed}");
        }
        assert_eq!(from_value::<SecretSource>(json!({"fil": "hunter2"})).unwrap_err().to_string(), LITERAL);
    }
}
