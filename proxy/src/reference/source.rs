//! A file that rows come from: what it is, by its first bytes, and its digest.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use ring::digest::{Context, SHA256};

use super::file::SourceFile;
use super::rows::{RowError, Rows};
use super::{csv, lines, parquet, recording};
use crate::rehearse::Progress;

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;
/// Bytes that a file is told by.
const PEEKED: usize = 64 << 10;

/// What is wrong with a source: where, what, and the mend.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It cannot be read.
    #[error("{file}: {error}")]
    Io {
        /// The file.
        file: String,
        /// Why.
        error: io::Error,
    },
    /// It is nothing that can be read.
    #[error("{file}: {message}")]
    Whole {
        /// The file.
        file: String,
        /// Why not, and the mend.
        message: String,
    },
    /// Something in it.
    #[error("{file}:{line}: {message}")]
    At {
        /// The file.
        file: String,
        /// The line, or row, from 1.
        line: u64,
        /// What is wrong there, and the mend.
        message: String,
    },
}

/// The forms of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Values between delimiters, names in the first line.
    Csv(u8),
    /// One JSON object a line.
    JsonLines,
    /// Apache Parquet.
    Parquet,
    /// What `checkgate run --record FILE` made.
    Recording,
}

impl Form {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Csv(_) => "csv",
            Self::JsonLines => "json lines",
            Self::Parquet => "parquet",
            Self::Recording => "recording",
        }
    }
}

/// A file that was looked at.
pub struct Source {
    path: PathBuf,
    /// Its name as it was given.
    pub name: String,
    /// What it is.
    pub form: Form,
    compressed: bool,
    length: u64,
    digest: [u8; 32],
}

/// What a source is asked for besides its rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The model whose rows of a recording count.
    pub model: Option<&'a str>,
    /// The version of it whose rows of a recording count.
    pub version: Option<&'a str>,
}

impl Source {
    /// Looks at a file: its form and its digest.
    ///
    /// # Errors
    /// It cannot be read, or is nothing that holds rows.
    pub fn look_at(path: &Path, progress: &dyn Progress) -> Result<Self, SourceError> {
        let name = path.display().to_string();
        let failed = |error| SourceError::Io { file: name.clone(), error };
        let mut file = File::open(path).map_err(failed)?;
        let mut head = Vec::new();
        (&mut file).take(PEEKED as u64).read_to_end(&mut head).map_err(failed)?;
        let compressed = head.starts_with(&[0x1f, 0x8b]);
        if compressed {
            let mut plain = Vec::new();
            // A head that is cut in the middle of a block unpacks as far as it goes.
            MultiGzDecoder::new(&head[..]).take(PEEKED as u64).read_to_end(&mut plain).ok();
            head = plain;
        }
        let form = form(&head).map_err(|message| SourceError::Whole { file: name.clone(), message })?;
        if compressed && matches!(form, Form::Parquet | Form::Recording) {
            let message = format!("a {} cannot be read through gzip: unpack it first", form.as_str());
            return Err(SourceError::Whole { file: name, message });
        }
        file.rewind().map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        progress.begin("looking", length);
        let digest = digest(file, progress).map_err(failed)?;
        Ok(Self { path: path.to_owned(), name, form, compressed, length, digest })
    }

    /// SHA-256 of the file.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Gathers its rows.
    ///
    /// # Errors
    /// Says where something is wrong, and the mend.
    pub fn read(
        &self,
        rows: &mut Rows,
        asked: Asked<'_>,
        progress: &dyn Progress,
    ) -> Result<SourceFile, SourceError> {
        progress.begin("reading", self.length);
        let before = rows.count();
        match self.form {
            Form::Csv(delimiter) => csv::read(self, self.open(progress)?, delimiter, rows)?,
            Form::JsonLines => lines::read(self, self.open(progress)?, rows)?,
            Form::Parquet => parquet::read(self, &self.path, rows)?,
            Form::Recording => recording::read(self, &self.path, asked, rows, progress)?,
        }
        Ok(SourceFile {
            name: self.name.clone(),
            form: self.form.as_str().to_owned(),
            bytes: self.length,
            sha256: hex::encode(self.digest),
            rows: (rows.count() - before) as u64,
        })
    }

    fn open<'p>(&self, progress: &'p dyn Progress) -> Result<Box<dyn BufRead + 'p>, SourceError> {
        let file = File::open(&self.path).map_err(|error| self.failed(error))?;
        let counted = Counted { inner: file, at: 0, progress };
        Ok(if self.compressed {
            Box::new(BufReader::with_capacity(
                CHUNK,
                MultiGzDecoder::new(BufReader::with_capacity(CHUNK, counted)),
            ))
        } else {
            Box::new(BufReader::with_capacity(CHUNK, counted))
        })
    }

    /// An error of reading.
    pub fn failed(&self, error: io::Error) -> SourceError {
        SourceError::Io { file: self.name.clone(), error }
    }

    /// An error about the whole.
    pub fn whole(&self, message: impl Into<String>) -> SourceError {
        SourceError::Whole { file: self.name.clone(), message: message.into() }
    }

    /// An error at a line.
    pub fn at(&self, line: u64, message: impl Into<String>) -> SourceError {
        SourceError::At { file: self.name.clone(), line, message: message.into() }
    }

    /// An error of a row at a line.
    pub fn row(&self, line: u64, error: &RowError) -> SourceError {
        self.at(line, error.to_string())
    }
}

/// What a file is by what it begins with.
fn form(head: &[u8]) -> Result<Form, String> {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    match text {
        [] => Err("it is empty: give a file with rows".to_owned()),
        _ if head.starts_with(b"CKGTJRNL") => Ok(Form::Recording),
        _ if head.starts_with(b"PAR1") => Ok(Form::Parquet),
        [b'{', ..] => Ok(Form::JsonLines),
        [b'[', ..] => {
            Err("it is one JSON list: give one object a line, as `jq -c '.[]'` writes them".to_owned())
        }
        _ if head.contains(&0) => Err("it is none of CSV, JSON lines, Parquet and recordings".to_owned()),
        _ => Ok(Form::Csv(delimiter(text))),
    }
}

/// The delimiter of a table: whichever of comma, semicolon, tab and bar the first line has most of.
fn delimiter(text: &[u8]) -> u8 {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let count = |delimiter: u8| line.iter().filter(|byte| **byte == delimiter).count();
    // Of equal counts the last one wins, so the comma stands last.
    *[b'|', b'\t', b';', b','].iter().max_by_key(|delimiter| count(**delimiter)).unwrap_or(&b',')
}

fn digest(mut file: File, progress: &dyn Progress) -> io::Result<[u8; 32]> {
    let (mut context, mut chunk, mut at) = (Context::new(&SHA256), vec![0; CHUNK], 0);
    loop {
        let read = file.read(&mut chunk)?;
        let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        context.update(bytes);
        at += read as u64;
        progress.at(at);
    }
    let mut digest = [0; 32];
    digest.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    Ok(digest)
}

/// Tells how far it was read.
struct Counted<'p> {
    inner: File,
    at: u64,
    progress: &'p dyn Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.at += read as u64;
        self.progress.at(self.at);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_by_its_first_bytes_whatever_it_is_called() {
        for (head, expected) in [
            (&b"a,b\n1,2\n"[..], Form::Csv(b',')),
            (b"a;b;c,d\n", Form::Csv(b';')),
            (b"a\tb\n", Form::Csv(b'\t')),
            (b"\xef\xbb\xbfage\n1\n", Form::Csv(b',')),
            (b" {\"a\": 1}\n", Form::JsonLines),
            (b"PAR1\x15\x04", Form::Parquet),
            (b"CKGTJRNL\x04\x00", Form::Recording),
        ] {
            assert_eq!(form(head), Ok(expected), "{}", String::from_utf8_lossy(head));
        }
        for other in [&b""[..], b"[1,2]", b"\x89PNG\x00\x01"] {
            assert!(form(other).is_err(), "{other:?}");
        }
    }
}
