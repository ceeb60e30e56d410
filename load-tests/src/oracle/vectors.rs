//! Vectors as data: files that a person can read, one for each class.
//!
//! ```text
//! # What the class is about.
//! == name of a vector
//! source: where it comes from
//! expect: refuse | pass | either
//! lenient: why the proxy may forward it in a clean form all the same
//! before: how many whole requests come before the one that is refused
//! absent: text that the upstream must not get
//! present: text that the upstream must get
//! --
//! GET / HTTP/1.1\r\n
//! Host: oracle\r\n
//! \r\n
//! ```
//!
//! Below `--` line breaks of the file mean nothing. `\r \n \t \\ \xHH` are bytes, `\|` is a pause between two
//! segments, and `<<3 ab>>` is `ababab`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

/// What a proxy should do with a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Answer 4xx or 5xx, close, and send nothing of it upstream.
    Refuse,
    /// Serve it: over-rejection is a fault.
    Pass,
    /// Either is right, as long as what goes upstream is clean.
    Either,
}

/// One vector.
#[derive(Clone, Debug)]
pub struct Vector {
    /// The file's name without ending.
    pub class: String,
    /// What it is, unique in its class.
    pub name: String,
    /// Where it comes from.
    pub source: String,
    /// What should happen.
    pub expect: Expect,
    /// Why it may be forwarded all the same.
    pub lenient: Option<String>,
    /// Whole requests before the one that is refused.
    pub before: usize,
    /// Texts that the upstream must not get, in lower case.
    pub absent: Vec<String>,
    /// Texts that the upstream must get, in lower case.
    pub present: Vec<String>,
    /// What is sent, still escaped.
    pub text: String,
}

impl Vector {
    /// What is sent over HTTP/1.1, segment by segment.
    ///
    /// # Errors
    /// Shows an escape that is none.
    pub fn segments(&self) -> anyhow::Result<Vec<Vec<u8>>> {
        segments(&self.text).with_context(|| self.title())
    }

    /// Class and name.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{}: {}", self.class, self.name)
    }
}

/// The folder of vector files.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// The vectors of `folder`, ordered by file name and place.
///
/// # Errors
/// Where a file cannot be read or does not follow the format.
pub fn load(folder: &Path) -> anyhow::Result<Vec<Vector>> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|ending| ending == "txt"));
    files.sort();
    let mut vectors = Vec::new();
    for file in files {
        let class = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file)?;
        vectors.extend(parse(&class, &text).with_context(|| file.display().to_string())?);
    }
    Ok(vectors)
}

/// The vectors of one file's text.
///
/// # Errors
/// Names the entry that does not follow the format.
pub fn parse(class: &str, text: &str) -> anyhow::Result<Vec<Vector>> {
    let mut entries = text.split("\n== ");
    let preamble = entries.next().unwrap_or_default();
    ensure!(
        preamble.lines().all(|line| line.starts_with('#') || line.is_empty()),
        "text before the first entry"
    );
    entries.map(|entry| parse_entry(class, entry)).collect()
}

fn parse_entry(class: &str, entry: &str) -> anyhow::Result<Vector> {
    let (head, bytes) = entry.split_once("\n--\n").with_context(|| format!("no `--` in {entry}"))?;
    let mut lines = head.lines();
    let name = lines.next().unwrap_or_default().to_owned();
    let mut vector = Vector {
        class: class.to_owned(),
        name: name.clone(),
        source: String::new(),
        expect: Expect::Either,
        lenient: None,
        before: 0,
        absent: Vec::new(),
        present: Vec::new(),
        text: bytes.to_owned(),
    };
    for line in lines {
        let (key, value) = line.split_once(": ").with_context(|| format!("{name}: {line} is no field"))?;
        set(&mut vector, key, value).with_context(|| name.clone())?;
    }
    ensure!(!vector.source.is_empty(), "{name} names no source");
    Ok(vector)
}

fn set(vector: &mut Vector, key: &str, value: &str) -> anyhow::Result<()> {
    match key {
        "source" => value.clone_into(&mut vector.source),
        "expect" => vector.expect = expectation(value)?,
        "lenient" => vector.lenient = Some(value.to_owned()),
        "before" => vector.before = value.parse()?,
        "absent" => vector.absent.push(value.to_ascii_lowercase()),
        "present" => vector.present.push(value.to_ascii_lowercase()),
        other => bail!("{other} is no key"),
    }
    Ok(())
}

fn expectation(value: &str) -> anyhow::Result<Expect> {
    match value {
        "refuse" => Ok(Expect::Refuse),
        "pass" => Ok(Expect::Pass),
        "either" => Ok(Expect::Either),
        other => bail!("{other} is no expectation"),
    }
}

fn segments(text: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let joined: String = text.lines().filter(|line| !line.starts_with('#')).collect();
    joined.split("\\|").map(unescaped).collect()
}

/// The bytes that one escaped text stands for.
///
/// # Errors
/// Shows an escape that is none.
pub fn unescaped(text: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some((count, repeated, after)) = repetition(rest) {
            bytes.extend(unescaped(repeated)?.repeat(count));
            rest = after;
        } else if first == '\\' {
            let (byte, after) = escape(&rest[1..]).with_context(|| format!("\\{}", &rest[1..]))?;
            bytes.push(byte);
            rest = after;
        } else {
            let (one, after) = rest.split_at(first.len_utf8());
            bytes.extend_from_slice(one.as_bytes());
            rest = after;
        }
    }
    Ok(bytes)
}

fn repetition(text: &str) -> Option<(usize, &str, &str)> {
    let (inside, after) = text.strip_prefix("<<")?.split_once(">>")?;
    let (count, repeated) = inside.split_once(' ')?;
    Some((count.parse().ok()?, repeated, after))
}

fn escape(text: &str) -> Option<(u8, &str)> {
    let letter = text.chars().next()?;
    let plain = match letter {
        'r' => b'\r',
        'n' => b'\n',
        't' => b'\t',
        '\\' => b'\\',
        'x' => return Some((u8::from_str_radix(text.get(1..3)?, 16).ok()?, text.get(3..)?)),
        _ => return None,
    };
    Some((plain, &text[1..]))
}

#[cfg(test)]
mod tests {
    use super::{Expect, folder, load, parse, unescaped};

    #[test]
    fn escapes_stand_for_bytes() {
        let bytes = unescaped(r"a\r\n\t\x00\\<<3 b\x2c>>").expect("they are escapes");
        assert_eq!(bytes, b"a\r\n\t\0\\b,b,b,");
        assert!(unescaped(r"\q").is_err(), "an unknown escape is an error, not text");
    }

    #[test]
    fn an_entry_says_what_is_sent_and_expected() {
        let text = "# About.\n\n== one\nsource: here\nexpect: refuse\nbefore: 1\n--\nGET /\\r\\n\nHost: x\\|\\r\\n\n";
        let vectors = parse("class", text).expect("it follows the format");
        let segments = vectors[0].segments().expect("its escapes are known");
        assert_eq!(segments, [b"GET /\r\nHost: x".to_vec(), b"\r\n".to_vec()]);
        assert_eq!((vectors[0].expect, vectors[0].before), (Expect::Refuse, 1));
        assert!(
            parse("class", "\n== one\nexpect: refuse\n--\nx").is_err(),
            "an entry without a source is refused"
        );
    }

    #[test]
    fn titles_are_unique() {
        let vectors = load(&folder()).expect("the files follow the format");
        let mut titles: Vec<String> = vectors.iter().map(super::Vector::title).collect();
        titles.sort();
        let before = titles.len();
        titles.dedup();
        assert_eq!(titles.len(), before, "a title stands for two vectors");
    }
}
