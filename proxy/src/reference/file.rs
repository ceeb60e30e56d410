//! The file of a drift reference.
//!
//! ```text
//! header   one line of JSON: version, where it comes from, what it is worth, length of the content
//! content  that many bytes of the core (`DriftReference::to_bytes`), and a line feed
//! seal     one line of JSON: SHA-256 of all before, and a signature of it where one was asked for
//! ```
//!
//! `head -n 1` shows the header. Nothing in the file can change without the seal being wrong, and with a key nobody but
//! its owner can make one. A file appears whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use checkgate_detectors::drift::reference::{BytesError, DriftReference};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::keys::{KeyError, SigningKey, VerifyingKey};

/// The version of the file's form.
pub const VERSION: u16 = 1;
/// A longer file is none of ours: a reference of 256 features takes about 1 MiB.
const BYTES_MAX: u64 = 64 << 20;
/// What a signature is made of besides the digest, so that it means nothing elsewhere.
const PURPOSE: &[u8] = b"checkgate drift reference\n";

/// The first line. What writes a file puts the version and the bytes in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the file's form.
    pub checkgate_drift_reference: u16,
    /// Bytes of the content.
    pub bytes: u64,
    /// Where it comes from.
    pub provenance: Provenance,
    /// What was read, column by column.
    pub columns: Vec<ColumnRead>,
    /// Columns that are not watched.
    pub left_out: Vec<LeftOut>,
}

/// Where a reference comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The program that made it, with its version.
    pub program: String,
    /// Who made it.
    pub by: String,
    /// When, in seconds since 1970.
    pub at: f64,
    /// The files that it was made of.
    pub from: Vec<SourceFile>,
    /// Rows that it was made of.
    pub rows: u64,
    /// Rows that lack at least one value.
    pub rows_with_missing: u64,
    /// The times of the first and the last row, in seconds since 1970, where they are known.
    pub span: Option<(f64, f64)>,
    /// Whether rows had to be put in the order of their times.
    pub sorted: bool,
}

/// A file that a reference was made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Its name as it was given.
    pub name: String,
    /// What it is: csv, json lines, parquet, recording.
    pub form: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 of it, in hexadecimal digits.
    pub sha256: String,
    /// Rows that came from it.
    pub rows: u64,
}

/// What was read of a column that is watched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnRead {
    /// Its name.
    pub name: String,
    /// `numbers` or `labels`.
    pub kind: String,
    /// Values that are missing.
    pub missing: u64,
    /// Values of the other type.
    pub wrong_type: u64,
    /// Where the first of these stands, and what it is.
    pub first_wrong: Option<String>,
    /// Whether all values are the same.
    pub constant: bool,
    /// Different labels, up to a bound; 0 of numbers.
    pub labels: u64,
    /// Whether its numbers were taken for labels because an option said so.
    #[serde(default)]
    pub as_labels: bool,
    /// What the labels with a slot of their own are called, by slot; empty where one is not known.
    #[serde(default)]
    pub names: Vec<String>,
}

/// A column that is not watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its name.
    pub name: String,
    /// Why.
    pub why: String,
}

#[derive(Serialize, Deserialize)]
struct Seal {
    sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signature: Option<Signature>,
}

#[derive(Serialize, Deserialize)]
struct Signature {
    algorithm: String,
    public_key: String,
    value: String,
}

/// A reference that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferenceFile {
    /// Its first line.
    pub header: Header,
    /// What detection needs.
    pub reference: DriftReference,
    /// SHA-256 of everything that the seal covers, in hexadecimal digits.
    pub sha256: String,
    /// What is known of its signature.
    pub signed: Signed,
}

/// What is known of a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signed {
    /// There is none.
    No,
    /// There is one, by the key that it names; no key was given to check it with.
    Unchecked(String),
    /// By the key that was given.
    By(String),
}

/// Why a file is no reference that can be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is such a file.
    #[error("{} exists; a reference is frozen: name another file, or replace it with --force", .0.display())]
    Exists(PathBuf),
    /// It is something else.
    #[error("{} is no reference of drift; `checkgate reference build --from DATA -o FILE` makes one", .0.display())]
    NotAReference(PathBuf),
    /// It is of another version.
    #[error(
        "{} has version {found} of the file's form, and this program reads {VERSION}: build the reference anew",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
    /// It is cut or changed.
    #[error("{} is damaged, {what}: copy it anew from where it was made, or build it anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// In which way.
        what: &'static str,
    },
    /// Its content is not to be read.
    #[error("{}: {error}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        error: BytesError,
    },
    /// A key is given and the file has no signature.
    #[error(
        "{} is not signed, and a signature is asked for: build it with --sign-with KEYFILE, or give no key",
        .0.display()
    )]
    Unsigned(PathBuf),
    /// It is signed by another key.
    #[error("{} is signed by the key {found}, not by {expected}: ask who made it", path.display())]
    OtherKey {
        /// The file.
        path: PathBuf,
        /// The key that it names.
        found: String,
        /// The key that was given.
        expected: String,
    },
    /// The signature is wrong.
    #[error("the signature of {} is wrong: it was not made by the owner of the key; do not use it", .0.display())]
    WrongSignature(PathBuf),
    /// The key cannot be read.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// The reference in the file at `path`. With a key file, one without a right signature by it is refused: what a model's
/// `drift.reference` and `drift.reference_key` name.
///
/// # Errors
/// Says what is wrong with the file or its signature, and the mend.
pub fn load(path: &Path, key: Option<&Path>) -> Result<ReferenceFile, FileError> {
    let key = key.map(VerifyingKey::read).transpose()?;
    read(path, key.as_ref())
}

/// The same with a key that was read before.
///
/// # Errors
/// As [`load`].
pub fn read(path: &Path, key: Option<&VerifyingKey>) -> Result<ReferenceFile, FileError> {
    let failed = |error| FileError::Io { path: path.to_owned(), error };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(BYTES_MAX).read_to_end(&mut bytes)).map_err(failed)?;
    parse(path, &bytes, key)
}

/// What stands in `bytes`; `path` is for messages.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, bytes: &[u8], key: Option<&VerifyingKey>) -> Result<ReferenceFile, FileError> {
    let damaged = |what| FileError::Damaged { path: path.to_owned(), what };
    let not_ours = || FileError::NotAReference(path.to_owned());
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(not_ours)?;
    let (line, rest) = bytes.split_at(end + 1);
    check_version(path, line)?;
    let header: Header = serde_json::from_slice(line).map_err(|_| damaged("its first line does not read"))?;
    let length = usize::try_from(header.bytes).map_err(|_| damaged("its length is absurd"))?;
    let content = rest.get(..length).ok_or_else(|| damaged("it is cut"))?;
    let seal =
        rest.get(length..).and_then(|rest| rest.strip_prefix(b"\n")).ok_or_else(|| damaged("it is cut"))?;
    let seal: Seal = serde_json::from_slice(seal).map_err(|_| damaged("its seal is cut or changed"))?;
    let sealed = bytes.get(..end + 1 + length + 1).unwrap_or_default();
    let digest = digest(&SHA256, sealed);
    let sha256 = hex::encode(digest.as_ref());
    if sha256 != seal.sha256 {
        return Err(damaged("its checksum differs"));
    }
    let signed = check_signature(path, digest.as_ref(), seal.signature.as_ref(), key)?;
    let reference = DriftReference::from_bytes(content)
        .map_err(|error| FileError::Content { path: path.to_owned(), error })?;
    Ok(ReferenceFile { header, reference, sha256, signed })
}

fn check_version(path: &Path, line: &[u8]) -> Result<(), FileError> {
    #[derive(Deserialize)]
    struct Version {
        checkgate_drift_reference: u16,
    }
    match serde_json::from_slice::<Version>(line) {
        Err(_) => Err(FileError::NotAReference(path.to_owned())),
        Ok(version) if version.checkgate_drift_reference != VERSION => {
            Err(FileError::Version { path: path.to_owned(), found: version.checkgate_drift_reference })
        }
        Ok(_) => Ok(()),
    }
}

fn check_signature(
    path: &Path,
    digest: &[u8],
    signature: Option<&Signature>,
    key: Option<&VerifyingKey>,
) -> Result<Signed, FileError> {
    match (signature, key) {
        (None, None) => Ok(Signed::No),
        (None, Some(_)) => Err(FileError::Unsigned(path.to_owned())),
        (Some(signature), None) => Ok(Signed::Unchecked(signature.public_key.clone())),
        (Some(signature), Some(key)) => {
            let expected = key.hexadecimal();
            let value = STANDARD.decode(&signature.value).unwrap_or_default();
            if key.holds(&message(digest), &value) {
                return Ok(Signed::By(expected));
            }
            let found = signature.public_key.clone();
            Err(if found == expected {
                FileError::WrongSignature(path.to_owned())
            } else {
                FileError::OtherKey { path: path.to_owned(), found, expected }
            })
        }
    }
}

fn message(digest: &[u8]) -> Vec<u8> {
    [PURPOSE, digest].concat()
}

/// A reference as the bytes of its file, signed where there is a key.
///
/// # Errors
/// Never in practice: plain data always serialises.
pub fn write(
    mut header: Header,
    reference: &DriftReference,
    key: Option<&SigningKey>,
) -> io::Result<Vec<u8>> {
    let content = reference.to_bytes();
    header.checkgate_drift_reference = VERSION;
    header.bytes = content.len() as u64;
    let mut bytes = serde_json::to_vec(&header)?;
    bytes.push(b'\n');
    bytes.extend(content);
    bytes.push(b'\n');
    let digest = digest(&SHA256, &bytes);
    let signature = key.map(|key| Signature {
        algorithm: "ed25519".to_owned(),
        public_key: key.verifying().hexadecimal(),
        value: STANDARD.encode(key.sign(&message(digest.as_ref()))),
    });
    let seal = Seal { sha256: hex::encode(digest.as_ref()), signature };
    serde_json::to_writer(&mut bytes, &seal)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Puts the bytes of a file into place: whole or not at all, and over an existing file only with `replace`. Readable by
/// its owner only: it says how the model's data lie.
///
/// # Errors
/// The file exists, or the disk fails.
pub fn put(path: &Path, bytes: &[u8], replace: bool) -> Result<(), FileError> {
    let failed = |error| FileError::Io { path: path.to_owned(), error };
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.draft", std::process::id()));
    let draft = PathBuf::from(name);
    let written = write_draft(&draft, bytes)
        .and_then(|()| if replace { fs::rename(&draft, path) } else { fs::hard_link(&draft, path) });
    // After a rename there is no draft any more.
    fs::remove_file(&draft).ok();
    match written {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(FileError::Exists(path.to_owned())),
        written => written.map_err(failed),
    }
}

fn write_draft(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
pub mod tests {
    use checkgate_detectors::drift::bins::Value;
    use checkgate_detectors::drift::reference::{Column, Settings, Table};

    use super::*;
    use crate::reference::keys::tests::{PRIVATE, PUBLIC};

    /// A small reference of one column.
    pub fn reference() -> DriftReference {
        let values = (0..2000).map(|row| Value::Number(f64::from(row * 7919 % 2000))).collect();
        let columns = vec![Column { name: "age".into(), values }];
        DriftReference::of(&Table { columns, times: Vec::new() }, &Settings::default()).unwrap()
    }

    /// A header of nothing much.
    pub fn header() -> Header {
        Header {
            checkgate_drift_reference: 0,
            bytes: 0,
            provenance: Provenance { by: "ada".into(), at: 1.8e9, rows: 2000, ..Provenance::default() },
            columns: Vec::new(),
            left_out: Vec::new(),
        }
    }

    fn keys() -> (SigningKey, VerifyingKey) {
        let folder = tempfile::tempdir().unwrap();
        let [private, public] = ["private", "public"].map(|name| folder.path().join(name));
        fs::write(&private, PRIVATE).unwrap();
        fs::write(&public, PUBLIC).unwrap();
        (SigningKey::read(&private).unwrap(), VerifyingKey::read(&public).unwrap())
    }

    fn parsed(bytes: &[u8], key: Option<&VerifyingKey>) -> Result<ReferenceFile, FileError> {
        parse(Path::new("it"), bytes, key)
    }

    #[test]
    fn a_reference_reads_back_from_its_file_with_a_header_for_people() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pricing.reference");
        put(&path, &write(header(), &reference(), None).unwrap(), false).unwrap();
        let read = load(&path, None).unwrap();
        assert_eq!((read.reference, read.signed), (reference(), Signed::No));
        let first = fs::read(&path).unwrap();
        let first = first.split(|byte| *byte == b'\n').next().unwrap();
        let first: serde_json::Value = serde_json::from_slice(first).unwrap();
        assert_eq!(
            (&first["checkgate_drift_reference"], &first["provenance"]["by"]),
            (&1.into(), &"ada".into())
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left behind");
    }

    #[test]
    fn what_exists_is_replaced_only_where_that_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r");
        put(&path, b"one", false).unwrap();
        assert!(matches!(put(&path, b"two", false), Err(FileError::Exists(_))), "it is frozen");
        assert_eq!(fs::read(&path).unwrap(), b"one");
        put(&path, b"two", true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
    }

    #[test]
    fn no_byte_can_be_cut_or_changed_unseen() {
        let whole = write(header(), &reference(), None).unwrap();
        for place in (0..whole.len()).step_by(37).chain(whole.len() - 90..whole.len() - 1) {
            let mut changed = whole.clone();
            changed[place] ^= 0x04;
            assert!(parsed(&changed, None).is_err(), "byte {place}");
            assert!(parsed(&whole[..place], None).is_err(), "cut at {place}");
        }
    }

    #[test]
    fn a_signature_is_verified_and_what_is_wrong_with_one_is_told() {
        let (signing, verifying) = keys();
        let signed = write(header(), &reference(), Some(&signing)).unwrap();
        let unsigned = write(header(), &reference(), None).unwrap();
        assert_eq!(parsed(&signed, Some(&verifying)).unwrap().signed, Signed::By(verifying.hexadecimal()));
        assert_eq!(parsed(&signed, None).unwrap().signed, Signed::Unchecked(verifying.hexadecimal()));
        assert!(matches!(parsed(&unsigned, Some(&verifying)), Err(FileError::Unsigned(_))), "none");
        let other = SigningKey::read(&made_key()).unwrap();
        let theirs = write(header(), &reference(), Some(&other)).unwrap();
        assert!(matches!(parsed(&theirs, Some(&verifying)), Err(FileError::OtherKey { .. })), "another key");
        // Whoever changes the content and mends the checksum has no signature for it.
        let mut forged = header();
        forged.provenance.by = "eve".into();
        let forged = write(forged, &reference(), None).unwrap();
        let seal = |bytes: &[u8]| {
            let line = bytes[..bytes.len() - 1].rsplit(|byte| *byte == b'\n').next().unwrap().to_vec();
            serde_json::from_slice::<Seal>(&line).unwrap()
        };
        let mixed = Seal { signature: seal(&signed).signature, ..seal(&forged) };
        let body = forged.len() - 1 - serde_json::to_vec(&seal(&forged)).unwrap().len();
        let mixed = [&forged[..body], &serde_json::to_vec(&mixed).unwrap(), b"\n"].concat();
        let refused = parsed(&mixed, Some(&verifying));
        assert!(matches!(refused, Err(FileError::WrongSignature(_))), "{refused:?}");
    }

    fn made_key() -> PathBuf {
        let random = ring::rand::SystemRandom::new();
        let made = ring::signature::Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let text = STANDARD.encode(made.as_ref());
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path().keep().unwrap();
        fs::write(&path, format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n"))
            .unwrap();
        path
    }

    #[test]
    fn another_file_and_another_version_are_told_apart() {
        for other in [&b"age,power\n1,2\n"[..], b"{}\n", b"", b"\x89PNG\n"] {
            assert!(matches!(parsed(other, None), Err(FileError::NotAReference(_))), "{other:?}");
        }
        let newer = b"{\"checkgate_drift_reference\":2,\"unknown\":true}\n";
        assert!(matches!(parsed(newer, None), Err(FileError::Version { found: 2, .. })));
    }
}
