//! Certificates, keys and authorities.

use std::path::{Path as FilePath, PathBuf};

use super::Check;
use crate::certificates::{self, Unusable};
use crate::path::Path;
use crate::raw::{RawCertificate, RawTls};
use crate::settings::{CertificateFiles, Listen, Tls};

/// Certificates that one process can choose from.
const CERTIFICATES_MAX: usize = 1000;

impl Check<'_> {
    /// TLS on the listeners; `Some(None)` where there is none.
    pub(super) fn tls(&mut self, raw: Option<&RawTls>, listen: Option<&[Listen]>) -> Option<Option<Tls>> {
        let scope = Path::dotted("tls");
        if raw.is_some() && listen.is_some_and(|all| all.iter().all(|one| matches!(one, Listen::Unix(_)))) {
            self.refuse_key(
                &scope,
                "no listener speaks TLS: it is for TCP, and every listener is a unix socket; remove tls or add a listener",
            );
        }
        self.tls_at(&scope, raw)
    }

    /// TLS as it was typed at `scope`; `Some(None)` where there is none.
    pub(super) fn tls_at(&mut self, scope: &Path, raw: Option<&RawTls>) -> Option<Option<Tls>> {
        let Some(raw) = raw else { return Some(None) };
        let certificates = self.certificates(scope, raw);
        let client_ca = self.authorities(&scope.key("client_ca"), raw.client_ca.as_deref());
        let client_certificate = scope.key("client_certificate");
        if raw.client_ca.is_none() && self.was_typed(&client_certificate) {
            self.refuse_key(
                &client_certificate,
                format!(
                    "of no effect without {}, the authorities whose certificates clients show; add it",
                    scope.key("client_ca")
                ),
            );
        }
        Some(Some(Tls {
            certificates: certificates?,
            client_ca: client_ca?,
            client_certificate: raw.client_certificate?,
        }))
    }

    fn certificates(&mut self, scope: &Path, raw: &RawTls) -> Option<Vec<CertificateFiles>> {
        let short = (raw.certificate.as_deref(), raw.key.as_deref());
        match (short, raw.certificates.as_deref()) {
            ((None, None), None | Some([])) => {
                self.refuse_key(
                    scope,
                    "TLS needs a certificate; add certificate and key, or a list of them as certificates",
                );
                None
            }
            ((certificate, key), None) => {
                self.certificate_files(scope, certificate, key).map(|files| vec![files])
            }
            ((None, None), Some(several)) => self.several_certificates(&scope.key("certificates"), several),
            _ => {
                self.refuse_key(
                    &scope.key("certificates"),
                    "give either certificate and key, or certificates, not both",
                );
                None
            }
        }
    }

    fn several_certificates(
        &mut self,
        list: &Path,
        several: &[RawCertificate],
    ) -> Option<Vec<CertificateFiles>> {
        if several.len() > CERTIFICATES_MAX {
            self.refuse_key(list, format!("more than {CERTIFICATES_MAX} certificates"));
            return None;
        }
        let files: Vec<_> = several
            .iter()
            .enumerate()
            .map(|(index, one)| {
                self.certificate_files(&list.index(index), one.certificate.as_deref(), one.key.as_deref())
            })
            .collect();
        files.into_iter().collect()
    }

    /// A certificate and a key that fit each other, typed as `certificate` and `key` inside of `scope`.
    pub(super) fn certificate_files(
        &mut self,
        scope: &Path,
        certificate: Option<&FilePath>,
        key: Option<&FilePath>,
    ) -> Option<CertificateFiles> {
        let (certificate_path, key_path) = (scope.key("certificate"), scope.key("key"));
        match (certificate, key) {
            (Some(certificate), Some(key)) => {
                let files = CertificateFiles {
                    certificate: self.resolve(&certificate_path, certificate),
                    key: self.resolve(&key_path, key),
                };
                self.usable(&certificate_path, &key_path, &files).map(|()| files)
            }
            (None, _) => {
                self.refuse_key(&key_path, "a key needs its certificate; add \"certificate: FILE\"");
                None
            }
            (_, None) => {
                self.refuse_key(&certificate_path, "a certificate needs its private key; add \"key: FILE\"");
                None
            }
        }
    }

    fn usable(&mut self, certificate_path: &Path, key_path: &Path, files: &CertificateFiles) -> Option<()> {
        let chain = self.or_refuse(certificate_path, certificates::chain(&files.certificate));
        let key = self.or_refuse(key_path, certificates::key(&files.key));
        match certificates::matching(chain?, key?) {
            Ok(()) => Some(()),
            Err(Unusable::Chain(message)) => self.or_refuse(certificate_path, Err(message)),
            Err(Unusable::Key(message)) => self.or_refuse(key_path, Err(message)),
        }
    }

    /// The file of authorities at `path`; `Some(None)` where none was typed.
    pub(super) fn authorities(&mut self, path: &Path, typed: Option<&FilePath>) -> Option<Option<PathBuf>> {
        let Some(typed) = typed else { return Some(None) };
        let file = self.resolve(path, typed);
        self.or_refuse(path, certificates::authorities(&file))?;
        Some(Some(file))
    }
}
