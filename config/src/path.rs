//! The way from the top level of a document to one setting.

use std::fmt;

use serde_json::Value;

/// One step from a value to a value inside of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

/// The steps from the top level to a setting; displays as `models[0].upstream`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Path(pub(crate) Vec<Step>);

impl Path {
    /// The document itself.
    pub(crate) fn top() -> Self {
        Self::default()
    }

    /// The path of a dotted name such as `clients.never_block`.
    pub(crate) fn dotted(name: &str) -> Self {
        Self(name.split('.').map(|key| Step::Key(key.into())).collect())
    }

    /// Every path that `pattern` leads to inside of `root`; `[]` behind a key stands for every item of a list.
    pub(crate) fn matching(pattern: &str, root: &Value) -> Vec<Self> {
        pattern.split('.').fold(vec![Self::top()], |paths, step| {
            paths.iter().flat_map(|path| path.stepped(step, root)).collect()
        })
    }

    fn stepped(&self, step: &str, root: &Value) -> Vec<Self> {
        let Some(list) = step.strip_suffix("[]") else { return vec![self.key(step)] };
        let path = self.key(list);
        let items = path.find(root).and_then(Value::as_array).map_or(0, Vec::len);
        (0..items).map(|index| path.index(index)).collect()
    }

    pub(crate) fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.into()))
    }

    pub(crate) fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    /// This path with `keys` behind it; `0` or `[0]` steps into a list where one stands there.
    pub(crate) fn keys(&self, keys: &[String], root: &Value) -> Self {
        let index = |key: &str| key.trim_matches(['[', ']']).parse();
        keys.iter().fold(self.clone(), |path, key| match (path.find(root), index(key)) {
            (Some(Value::Array(_)), Ok(index)) => path.index(index),
            _ => path.key(key),
        })
    }

    pub(crate) fn starts_with(&self, prefix: &Path) -> bool {
        self.0.starts_with(&prefix.0)
    }

    /// What this path leads to inside of `root`.
    pub(crate) fn find<'a>(&self, root: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(root, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Index(index) => value.get(index),
        })
    }

    /// Removes the last key of this path from `root`; false where it leads nowhere.
    pub(crate) fn cut(&self, root: &mut Value) -> bool {
        let Some(at) = self.0.iter().rposition(|step| matches!(step, Step::Key(_))) else {
            return false;
        };
        let (parent, last) = self.0.split_at(at);
        let parent = parent.iter().try_fold(root, |value, step| match step {
            Step::Key(key) => value.get_mut(key),
            Step::Index(index) => value.get_mut(index),
        });
        match (parent, last.first()) {
            (Some(Value::Object(mapping)), Some(Step::Key(key))) => mapping.remove(key).is_some(),
            _ => false,
        }
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl From<&serde_path_to_error::Path> for Path {
    fn from(path: &serde_path_to_error::Path) -> Self {
        use serde_path_to_error::Segment;
        let step = |segment: &Segment| match segment {
            Segment::Map { key } | Segment::Enum { variant: key } => Some(Step::Key(key.clone())),
            Segment::Seq { index } => Some(Step::Index(*index)),
            Segment::Unknown => None,
        };
        Self(path.iter().map_while(step).collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if position == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_path_reads_as_an_operator_would_write_it() {
        let path = Path::top().key("models").index(2).key("detectors").key("one_field_sweep");
        assert_eq!(path.to_string(), "models[2].detectors.one_field_sweep");
        assert_eq!(Path::dotted("admin.token").to_string(), "admin.token");
    }

    #[test]
    fn a_pattern_leads_to_every_item() {
        let root = json!({"models": [{"servers": [1, 2]}, {}, {"servers": [3]}]});
        let found = |pattern| -> Vec<String> {
            Path::matching(pattern, &root).iter().map(ToString::to_string).collect()
        };
        assert_eq!(found("limits.blocks"), ["limits.blocks"]);
        assert_eq!(
            found("models[].servers[].weight"),
            ["models[0].servers[0].weight", "models[0].servers[1].weight", "models[2].servers[0].weight"]
        );
    }

    #[test]
    fn cutting_removes_the_last_key_and_nothing_else() {
        let mut root = json!({"models": [{"name": 1, "path": "/"}]});
        assert!(Path::top().key("models").index(0).key("name").cut(&mut root));
        assert_eq!(root, json!({"models": [{"path": "/"}]}));
        assert!(Path::top().key("models").index(0).cut(&mut root), "a bad item takes its list with it");
        assert_eq!(root, json!({}));
        assert!(!Path::top().cut(&mut root));
    }
}
