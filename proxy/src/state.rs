//! The state folder: the little that outlives a restart.
//!
//! ```text
//! instance.key   16 random bytes; keys every hash of this instance
//! admin.token    the bearer token of the admin API, where the operator configured none
//! kill-switch    while this file exists, nothing is enforced
//! references/    references that were learned; those in promoted/ are trusted, those in candidates/ wait for an operator
//! drift/         what drift remembers of each model, see `state/drift_memory.rs`
//! ledger/        what was found and decided, see `ledger/`
//! sinks/         how far each sink has delivered, and what nobody wanted, see `sinks/`
//! ```
//!
//! Whatever cannot be read or written is replaced by a value in memory and told: a full or read-only disk costs
//! durability, never the traffic.

pub mod candidates;
pub mod drift_memory;
mod promoted;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use checkgate_config::settings::Secret;
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};

use self::candidates::{Candidate, Summary};

/// Where promoted references are.
const PROMOTED: &str = "references/promoted";
/// Where references are that maintenance windows taught.
const CANDIDATES: &str = "references/candidates";
/// The ending of a candidate.
const CANDIDATE: &str = "candidate";
/// The ending of a promoted reference of drift.
const DRIFT: &str = "drift";
/// Letters of a model's name in that of a file.
const LETTERS_MAX: usize = 40;
/// Bytes of the instance key.
const KEY_BYTES: usize = 16;
/// Random bytes of a made token; it is written as twice as many hexadecimal digits.
const TOKEN_BYTES: usize = 32;
/// A token on disk that is shorter was cut or tampered with.
const TOKEN_CHARACTERS_MIN: usize = 16;
/// Nothing in the directory that is read whole is longer.
const FILE_BYTES_MAX: u64 = 4096;
/// Permission bits that nobody but the owner should have.
const OTHERS: u32 = 0o077;

/// What the state folder holds, or what stands in for it.
#[derive(Debug)]
pub struct State {
    directory: PathBuf,
    hash_key: [u8; KEY_BYTES],
    token: Secret,
    /// By the model's name, as their JSON lines.
    promoted: Mutex<BTreeMap<String, Arc<str>>>,
    /// The same of references of drift.
    promoted_drifts: Mutex<BTreeMap<String, Arc<Candidate>>>,
    /// What waits for an operator.
    candidates: Mutex<BTreeMap<String, Arc<Candidate>>>,
    problems: Vec<String>,
}

/// What became of a candidate that is to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// It waits for an operator.
    First,
    /// It does, in the place of an earlier one.
    Replaces,
    /// There is no room: so many models have one already.
    NoRoom,
}

/// The one thing without which nothing can start.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gives no random bytes: {0}")]
pub struct NoRandomness(getrandom::Error);

impl State {
    /// Opens the directory, making what is missing. `token` is the operator's own; without it one is made and kept.
    ///
    /// # Errors
    /// Only where the operating system gives no random bytes. Everything else is a [problem](Self::problems) and is
    /// logged as a warning.
    pub fn open(directory: &Path, token: Option<&Secret>) -> Result<Self, NoRandomness> {
        let mut problems = Vec::new();
        make_directories(directory, &mut problems);
        let hash_key = instance_key(&directory.join("instance.key"), &mut problems)?;
        let token = match token {
            Some(token) => token.clone(),
            None => made_token(&directory.join("admin.token"), &mut problems)?,
        };
        let promoted = promoted::read(&directory.join(PROMOTED), &mut problems);
        let promoted_drifts = candidates::read(&directory.join(PROMOTED), DRIFT, &mut problems);
        let candidates = candidates::read(&directory.join(CANDIDATES), CANDIDATE, &mut problems);
        for problem in &problems {
            tracing::warn!(problem, "the state folder cannot be relied upon");
        }
        Ok(Self {
            directory: directory.to_owned(),
            hash_key,
            token,
            promoted: Mutex::new(promoted),
            promoted_drifts: Mutex::new(promoted_drifts),
            candidates: Mutex::new(candidates),
            problems,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The key of every keyed hash of this instance: hashes compare across restarts and mean nothing elsewhere.
    #[must_use]
    pub fn hash_key(&self) -> [u64; 2] {
        let whole = u128::from_le_bytes(self.hash_key);
        [whole as u64, (whole >> 64) as u64]
    }

    /// The instance's key itself, from which other keys are derived.
    #[must_use]
    pub fn instance_key(&self) -> [u8; KEY_BYTES] {
        self.hash_key
    }

    /// What this instance goes by elsewhere: the same over restarts, and nothing of its key can be told from it.
    #[must_use]
    pub fn instance_id(&self) -> Arc<str> {
        id_of(&self.hash_key)
    }

    /// The bearer token that writes need: the operator's, the one on disk, or one that only this process knows.
    #[must_use]
    pub fn token(&self) -> &Secret {
        &self.token
    }

    /// The kill switch's file.
    #[must_use]
    pub fn kill_switch(&self) -> PathBuf {
        kill_switch_in(&self.directory)
    }

    /// Where learned references are kept.
    #[must_use]
    pub fn references(&self) -> PathBuf {
        self.directory.join("references")
    }

    /// Keeps the reference that was learned for a model, as JSON lines: the operator looks at it and names it with
    /// `--reference MODEL=FILE`. A model's name came from traffic, so it is not trusted to be a file's.
    pub fn save_reference(&self, model: &str, json_lines: &str) {
        let path = self.references().join(format!("{}.jsonl", file_name(model)));
        match fs::write(&path, json_lines) {
            Ok(()) => tracing::info!(
                model,
                path = %path.display(),
                "reference learned (provisional: it may alert, never block); name it with --reference to trust it"
            ),
            Err(error) => tracing::warn!(model, path = %path.display(), %error, "learned reference not kept"),
        }
    }

    /// Keeps the reference of drift that was learned for a model, over one of before: the next start goes on with it.
    pub fn save_drift(&self, model: &str, bytes: &[u8]) {
        let Some(path) = learned_drift_in(&self.directory, model) else { return };
        match replace(&path, bytes) {
            Ok(()) => tracing::info!(
                model,
                path = %path.display(),
                "reference of drift learned (provisional: it may warn and page); name one with drift.reference to trust it"
            ),
            Err(error) => {
                tracing::warn!(model, path = %path.display(), %error, "learned reference of drift not kept");
            }
        }
    }

    /// The references that models learned and operators promoted, by the model's name.
    #[must_use]
    pub fn promoted(&self) -> BTreeMap<String, Arc<str>> {
        self.promoted.lock().clone()
    }

    /// The references of drift that operators promoted, by the model's name, as their bytes.
    #[must_use]
    pub fn promoted_drifts(&self) -> BTreeMap<String, Arc<[u8]>> {
        let kept = self.promoted_drifts.lock();
        let bytes = |(model, kept): (&String, &Arc<Candidate>)| Some((model.clone(), kept.drift.clone()?));
        kept.iter().filter_map(bytes).collect()
    }

    /// What waits for an operator, in the order of the models' names.
    #[must_use]
    pub fn candidates(&self) -> Vec<Summary> {
        self.candidates.lock().values().map(|candidate| candidate.summary.clone()).collect()
    }

    /// What waits for an operator of one model.
    #[must_use]
    pub fn candidate(&self, model: &str) -> Option<Arc<Candidate>> {
        self.candidates.lock().get(model).map(Arc::clone)
    }

    /// Looks again what waits: another process kept it until now.
    pub fn look_for_candidates(&self) {
        let mut problems = Vec::new();
        let found = candidates::read(&self.directory.join(CANDIDATES), CANDIDATE, &mut problems);
        for problem in &problems {
            tracing::warn!(problem, "the state folder cannot be relied upon");
        }
        *self.candidates.lock() = found;
    }

    /// Keeps what a maintenance window taught, in the place of what one before it did. Where the disk does not take it, it
    /// waits in memory only, and that is told.
    pub fn keep_candidate(&self, candidate: Candidate) -> Waiting {
        let mut waiting = self.candidates.lock();
        let model = candidate.summary.model.clone();
        let replaces = waiting.contains_key(&model);
        if !replaces && waiting.len() >= candidates::MODELS_MAX {
            return Waiting::NoRoom;
        }
        if let Err(error) = candidates::write(&self.directory.join(CANDIDATES), CANDIDATE, &candidate) {
            tracing::error!(model, %error, "what a maintenance window taught waits, but a restart will not find it");
        }
        waiting.insert(model, Arc::new(candidate));
        if replaces { Waiting::Replaces } else { Waiting::First }
    }

    /// Keeps a candidate as promoted, so that plans from here on rest on it, and it no longer waits. Says whether a restart
    /// leaves it.
    pub fn keep_promoted_candidate(&self, candidate: &Arc<Candidate>) -> bool {
        let model = &*candidate.summary.model;
        let mut kept = true;
        if let Some(text) = &candidate.query {
            kept &= self.keep_promoted(model, Arc::clone(text));
        }
        if candidate.drift.is_some() {
            let alone = Candidate { query: None, ..Candidate::clone(candidate) };
            let written = candidates::write(&self.directory.join(PROMOTED), DRIFT, &alone);
            if let Err(error) = &written {
                tracing::error!(model, %error, "the promoted reference of drift is in force, but a restart will not find it");
            }
            kept &= written.is_ok();
            self.promoted_drifts.lock().insert(model.to_owned(), Arc::new(alone));
        }
        let mut waiting = self.candidates.lock();
        // A newer one that came meanwhile waits on.
        if waiting.get(model).is_some_and(|newest| Arc::ptr_eq(newest, candidate)) {
            waiting.remove(model);
            if kept && let Err(error) = candidates::remove(&self.directory.join(CANDIDATES), CANDIDATE, model)
            {
                tracing::warn!(model, %error, "a candidate that was promoted will be offered again after a restart");
            }
        }
        kept
    }

    /// Whether one more can be kept, or that of `model` in the place of the one before.
    #[must_use]
    pub fn has_room_to_promote(&self, model: &str) -> bool {
        let promoted = self.promoted.lock();
        promoted.len() < promoted::MODELS_MAX || promoted.contains_key(model)
    }

    /// Keeps a promoted reference, so that plans from here on rest on it. Says whether a restart leaves it.
    pub fn keep_promoted(&self, model: &str, json_lines: Arc<str>) -> bool {
        let written = promoted::write(&self.directory.join(PROMOTED), model, &json_lines);
        if let Err(error) = &written {
            tracing::error!(model, %error, "the promoted reference is in force, but a restart will not find it");
        }
        self.promoted.lock().insert(model.to_owned(), json_lines);
        written.is_ok()
    }

    /// What is wrong with the directory, one sentence each; empty where all of it is durable.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

/// Where the learned reference of a model's drift lies in a state folder; nowhere for a model without a name.
#[must_use]
pub fn learned_drift_in(directory: &Path, model: &str) -> Option<PathBuf> {
    (!model.is_empty()).then(|| directory.join("references").join(format!("{}.drift", file_name(model))))
}

/// A model's name came from traffic, so it is not trusted to be a file's.
fn file_name(model: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let name: String = model.chars().map(plain).take(64).collect();
    name.trim_start_matches('.').to_owned()
}

/// The name of a model's file without its ending: letters of the model's name, and what keeps files apart.
fn stem(model: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_-".contains(c) { c } else { '_' };
    let letters: String = model.chars().map(plain).take(LETTERS_MAX).collect();
    let digest = digest(&SHA256, model.as_bytes());
    let digits = hex::encode(digest.as_ref().get(..8).unwrap_or_default());
    format!("{letters}-{digits}")
}

/// The kill switch's file in a state folder that nobody opened: all that the command line needs.
#[must_use]
pub fn kill_switch_in(directory: &Path) -> PathBuf {
    directory.join("kill-switch")
}

/// The id of the instance whose state folder that is; another one where its key cannot be read.
#[must_use]
pub fn instance_id_in(directory: &Path) -> Arc<str> {
    match read(&directory.join("instance.key")) {
        Ok(key) if key.len() == KEY_BYTES => id_of(&key),
        _ => "cg-nobody".into(),
    }
}

fn id_of(key: &[u8]) -> Arc<str> {
    let text = [b"checkgate instance id".as_slice(), key].concat();
    let digest = ring::digest::digest(&ring::digest::SHA256, &text);
    let digits = hex::encode(digest.as_ref().get(..8).unwrap_or_default());
    format!("cg-{digits}").into()
}

/// The admin token in a state folder that nobody opened, where it can be read.
///
/// # Errors
/// There is no such file, or this user may not read it.
pub fn admin_token_in(directory: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(directory.join("admin.token"))?.trim().to_owned())
}

fn make_directories(directory: &Path, problems: &mut Vec<String>) {
    for path in [directory.to_owned(), directory.join("references")] {
        if let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(&path) {
            problems.push(format!("{} cannot be made: {error}", path.display()));
            return;
        }
    }
    tell_if_open_to_others(directory, problems);
}

/// The key on disk; a new one where there is none; one in memory where neither can be had.
fn instance_key(path: &Path, problems: &mut Vec<String>) -> Result<[u8; KEY_BYTES], NoRandomness> {
    let fresh = random::<KEY_BYTES>()?;
    let kept = read_or_make(path, &fresh, problems);
    Ok(kept.map_or(fresh, |bytes| {
        bytes.try_into().unwrap_or_else(|_| {
            problems.push(format!(
                "{} is not {KEY_BYTES} bytes long; remove it and start again to get a new key",
                path.display()
            ));
            fresh
        })
    }))
}

/// The token on disk; a new one where there is none; one that nobody knows where neither can be had.
fn made_token(path: &Path, problems: &mut Vec<String>) -> Result<Secret, NoRandomness> {
    let fresh = hex::encode(random::<TOKEN_BYTES>()?);
    let kept = read_or_make(path, format!("{fresh}\n").as_bytes(), problems);
    let text = kept.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    if text.trim().len() >= TOKEN_CHARACTERS_MIN {
        return Ok(Secret::new(text.trim().to_owned()));
    }
    problems.push(format!(
        "{} holds no token, so the admin API takes no writes; remove the file or configure a token",
        path.display()
    ));
    Ok(Secret::new(fresh))
}

/// The content of `path`, which is made with `fresh` where it does not exist.
fn read_or_make(path: &Path, fresh: &[u8], problems: &mut Vec<String>) -> Option<Vec<u8>> {
    let content = match read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path, fresh).and_then(|()| read(path)),
        content => content,
    };
    match content {
        Ok(bytes) => {
            tell_if_open_to_others(path, problems);
            Some(bytes)
        }
        Err(error) => {
            problems.push(format!("{} cannot be used: {error}", path.display()));
            None
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Makes `path` appear whole or not at all, and never over an existing file: of two instances that start on one
/// directory at the same moment both end up with the same content.
fn make(path: &Path, content: &[u8]) -> io::Result<()> {
    let draft = path.with_extension(format!("{}.draft", std::process::id()));
    let made = write_privately(&draft, content).and_then(|()| fs::hard_link(&draft, path));
    let _ = fs::remove_file(&draft);
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Puts a file in the place of what stood there before: whole or not at all, and durable.
fn replace(whole: &Path, content: &[u8]) -> io::Result<()> {
    let draft = whole.with_extension("draft");
    write_privately(&draft, content)?;
    fs::rename(&draft, whole)?;
    // The name is durable once its folder is.
    whole.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn write_privately(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn tell_if_open_to_others(path: &Path, problems: &mut Vec<String>) {
    let Ok(metadata) = fs::metadata(path) else { return };
    let mode = metadata.permissions().mode();
    if mode & OTHERS != 0 {
        problems.push(format!(
            "{} is open to other users (mode {:03o}); `chmod go= {}` mends it",
            path.display(),
            mode & 0o777,
            path.display()
        ));
    }
}

fn random<const BYTES: usize>() -> Result<[u8; BYTES], NoRandomness> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(NoRandomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_new_directory_is_private_and_keeps_its_key_and_token() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("deep/state");
        let first = State::open(&path, None).unwrap();
        assert!(first.problems().is_empty(), "{:?}", first.problems());
        assert_eq!(mode_of(&path), 0o700);
        assert_eq!(mode_of(&path.join("instance.key")), 0o600);
        assert_eq!(mode_of(&path.join("admin.token")), 0o600);
        assert!(path.join("references").is_dir());
        let second = State::open(&path, None).unwrap();
        assert_eq!(first.hash_key(), second.hash_key(), "hashes must compare across a restart");
        assert_eq!(first.token().reveal(), second.token().reveal());
        assert_eq!(fs::read_dir(&path).unwrap().count(), 3, "a draft was left behind");
    }

    #[test]
    fn a_configured_token_is_used_and_none_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let state =
            State::open(directory.path(), Some(&Secret::new("correct horse battery".into()))).unwrap();
        assert_eq!(state.token().reveal(), "correct horse battery");
        assert!(!directory.path().join("admin.token").exists());
    }

    #[test]
    fn a_directory_that_cannot_be_made_costs_durability_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "in the way").unwrap();
        let state = State::open(&file.join("state"), None).unwrap();
        assert!(!state.problems().is_empty(), "the loss of durability must be told");
        assert_ne!(state.hash_key(), [0, 0]);
        assert!(state.token().reveal().len() >= TOKEN_CHARACTERS_MIN, "an empty token would open the API");
    }

    #[test]
    fn damaged_files_are_told_and_left_for_the_operator() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("instance.key"), "short").unwrap();
        fs::write(directory.path().join("admin.token"), "\n").unwrap();
        let state = State::open(directory.path(), None).unwrap();
        let problems = state.problems().join("\n");
        assert!(problems.contains("instance.key is not 16 bytes"), "{problems}");
        assert!(problems.contains("admin.token holds no token"), "{problems}");
        assert_eq!(fs::read(directory.path().join("instance.key")).unwrap(), b"short");
        assert!(state.token().reveal().len() >= TOKEN_CHARACTERS_MIN, "an empty token would open the API");
    }

    #[test]
    fn files_that_others_can_read_are_told() {
        let directory = tempfile::tempdir().unwrap();
        drop(State::open(directory.path(), None).unwrap());
        let token = directory.path().join("admin.token");
        fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
        let state = State::open(directory.path(), None).unwrap();
        assert!(
            state.problems().iter().any(|problem| problem.contains("(mode 644)")),
            "{:?}",
            state.problems()
        );
    }

    #[test]
    fn a_file_that_stands_is_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("instance.key");
        make(&path, b"first").unwrap();
        make(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first");
    }
}
