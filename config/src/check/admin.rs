//! Who may ask the operators' listener.

use super::Check;
use crate::path::Path;
use crate::raw::{RawAdmin, RawAdminToken, RawCertificateName};
use crate::settings::{Admin, CertificateName, Scope, Tls, Token};

/// Tokens, or names of certificates, that one listener knows.
const KNOWN_MAX: usize = 64;
/// Letters of a name in a certificate.
const CERTIFICATE_NAME_MAX: usize = 256;

impl Check<'_> {
    pub(super) fn admin(&mut self, raw: &RawAdmin) -> Option<Admin> {
        let path = Path::dotted("admin.listen");
        let token = self.token(raw);
        let tls = self.tls_at(&Path::dotted("admin.tls"), raw.tls.as_ref());
        let tokens = self.tokens(raw.tokens.as_deref().unwrap_or_default());
        let shows = tls.iter().flatten().any(|tls| tls.client_ca.is_some());
        let certificates = self.certificate_names(raw.certificates.as_deref().unwrap_or_default(), shows);
        let listen = self.address(&path, raw.listen.as_deref()?, "127.0.0.1:8766 or [::1]:8766")?;
        if !listen.ip().is_loopback() && !is_guarded(raw) {
            self.refuse(
                &path,
                "other machines reach this address, so it needs a token; add admin.tokens, admin.token or admin.token_file, or admin.tls with client_ca and admin.certificates, or listen on 127.0.0.1",
            );
        }
        let tls: Option<Tls> = tls?;
        Some(Admin { listen, token, tokens: tokens?, tls, certificates: certificates? })
    }

    fn tokens(&mut self, typed: &[RawAdminToken]) -> Option<Vec<Token>> {
        let list = Path::dotted("admin.tokens");
        self.few(&list, typed.len())?;
        let tokens: Vec<_> =
            typed.iter().enumerate().map(|(index, one)| self.one_token(&list.index(index), one)).collect();
        let tokens = tokens.into_iter().collect::<Option<Vec<_>>>()?;
        self.once(&list, &tokens.iter().map(|token| token.name.as_str()).collect::<Vec<_>>());
        Some(tokens)
    }

    fn one_token(&mut self, path: &Path, typed: &RawAdminToken) -> Option<Token> {
        let name = self.actor_name(path, "a token's name", typed.name.as_deref());
        let hash = self.given(path, "sha256", typed.sha256.as_deref());
        let sha256 = hash.and_then(|hash| {
            let bytes = digest(hash);
            if bytes.is_none() {
                self.refuse(
                    &path.key("sha256"),
                    "expected 64 hexadecimal digits, the SHA-256 of the token; `checkgate token new NAME` makes a token and prints them",
                );
            }
            bytes
        });
        let scope = self.scope(path, typed.scopes.as_deref());
        Some(Token { name: name?, sha256: sha256?, scope: scope? })
    }

    /// The name that the ledger and metrics know somebody by; `what` it is called in messages.
    pub(super) fn actor_name(&mut self, path: &Path, what: &str, typed: Option<&str>) -> Option<String> {
        let name = self.given(path, "name", typed)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let sound = (1..=64).contains(&name.len()) && name.chars().all(plain);
        if !sound {
            self.refuse(
                &path.key("name"),
                format!("{what} is 1 to 64 letters, digits, \".\", \"_\" or \"-\""),
            );
        }
        sound.then(|| name.to_owned())
    }

    fn certificate_names(
        &mut self,
        typed: &[RawCertificateName],
        shows: bool,
    ) -> Option<Vec<CertificateName>> {
        let list = Path::dotted("admin.certificates");
        self.few(&list, typed.len())?;
        if !typed.is_empty() && !shows {
            self.refuse_key(
                &list,
                "of no effect without admin.tls.client_ca, the authorities whose certificates operators show; add it",
            );
        }
        let mut names = Vec::new();
        for (index, one) in typed.iter().enumerate() {
            let path = list.index(index);
            let name = self.given(&path, "name", one.name.as_deref());
            let scope = self.scope(&path, one.scopes.as_deref());
            let name = name.filter(|name| {
                let sound =
                    (1..=CERTIFICATE_NAME_MAX).contains(&name.len()) && !name.contains(char::is_control);
                if !sound {
                    self.refuse(
                        &path.key("name"),
                        "expected a name as it stands in a certificate, 1 to 256 letters",
                    );
                }
                sound
            });
            names.push(name.zip(scope).map(|(name, scope)| CertificateName { name: name.to_owned(), scope }));
        }
        let names = names.into_iter().collect::<Option<Vec<_>>>()?;
        self.once(&list, &names.iter().map(|name| name.name.as_str()).collect::<Vec<_>>());
        Some(names)
    }

    pub(super) fn given<'t>(&mut self, path: &Path, key: &str, typed: Option<&'t str>) -> Option<&'t str> {
        if typed.is_none() {
            self.refuse_key(path, format!("has no {key}; add \"{key}: ...\""));
        }
        typed
    }

    /// The strongest of the scopes that were typed.
    fn scope(&mut self, path: &Path, typed: Option<&[Scope]>) -> Option<Scope> {
        let strongest = typed.unwrap_or_default().iter().max().copied();
        if strongest.is_none() {
            self.refuse_key(path, "may do nothing; add \"scopes: [read]\", or decide or admin");
        }
        strongest
    }

    pub(super) fn few(&mut self, list: &Path, count: usize) -> Option<()> {
        if count > KNOWN_MAX {
            self.refuse_key(list, format!("more than {KNOWN_MAX} entries; remove those that nobody uses"));
            return None;
        }
        Some(())
    }

    pub(super) fn once(&mut self, list: &Path, names: &[&str]) {
        for (index, name) in names.iter().enumerate() {
            if names.iter().take(index).any(|earlier| earlier == name) {
                self.refuse(
                    &list.index(index).key("name"),
                    format!("\"{name}\" stands twice; give each a name of its own"),
                );
            }
        }
    }
}

/// Whether something was typed without which nobody may ask.
fn is_guarded(raw: &RawAdmin) -> bool {
    let some = |length: Option<usize>| length.is_some_and(|length| length > 0);
    raw.token.is_some()
        || raw.token_file.is_some()
        || some(raw.tokens.as_ref().map(Vec::len))
        || some(raw.certificates.as_ref().map(Vec::len))
}

pub(super) fn digest(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}
