//! Whom a client trusts: the authorities in a file, or those that the system it runs on trusts.
//!
//! A list in the program would be as old as the program; the system's is kept up by its updates.

use std::env;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::error::ConnectError;

/// The authorities in the file, all of which have to be sound; without one, the system's.
pub(super) fn read(file: Option<&Path>) -> Result<RootCertStore, ConnectError> {
    let Some(file) = file else { return of_system(env::var_os(VARIABLE).map(PathBuf::from)) };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| file_error(file, &error))?;
    }
    Ok(roots)
}

/// The certificates in a file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| file_error(path, &error))?;
    match found.is_empty() {
        true => Err(file_error(path, &"no certificate in it")),
        false => Ok(found),
    }
}

pub(super) fn file_error(path: &Path, why: &dyn ToString) -> ConnectError {
    ConnectError::File { path: path.to_owned(), why: why.to_string() }
}

/// A distribution's list has old certificates, too; those that rustls does not read are left out.
fn of_system(told: Option<PathBuf>) -> Result<RootCertStore, ConnectError> {
    let usual = || LISTS.iter().map(PathBuf::from).find(|path| path.exists());
    let Some(path) = told.or_else(usual) else {
        return Err(file_error(
            Path::new(LISTS[0]),
            &"the system has no list of authorities; install ca-certificates, or name a file with \
              the authority",
        ));
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(&path)?);
    match roots.is_empty() {
        true => Err(file_error(&path, &"no certificate in it is an authority's")),
        false => Ok(roots),
    }
}

/// Names another file than the system's, as with OpenSSL.
const VARIABLE: &str = "SSL_CERT_FILE";

/// Where distributions keep their list in one file.
const LISTS: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt", // Debian, Raspberry Pi OS, Yocto, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",   // Fedora
    "/etc/ssl/ca-bundle.pem",             // openSUSE
    "/etc/ssl/cert.pem",                  // OpenWrt
    "/etc/ca-certificates.pem",           // built by hand
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Made for this test; its key was thrown away.
    const AUTHORITY: &str = "\
-----BEGIN CERTIFICATE-----
MIIBfzCCASWgAwIBAgIULI+j2FMNj+cxxw7vAPS6Rbx12EUwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJYXV0aG9yaXR5MCAXDTI2MTEyNjA4NTgyNVoYDzIxMjYxMTAy
MDg1ODI1WjAUMRIwEAYDVQQDDAlhdXRob3JpdHkwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAT3v3eH6BmvRny2bocKgmZ7YKET6AH9hJGc5ij2eJzIVd0i3nNXvsyW
FuSTcmBxtc6XrdQxfY0yMrtsfE7YsNafo1MwUTAdBgNVHQ4EFgQUkv9Ou/6xr66b
g6SFW2W109eKgr8wHwYDVR0jBBgwFoAUkv9Ou/6xr66bg6SFW2W109eKgr8wDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiBXhEeTKQtjjExmEiZiGgZU
toVsEWYSbnWJbrZTDvLtGwIhAIed8/SsseG01eX2ueDVv60buGlUdRYOit3GXOcj
f4WX
-----END CERTIFICATE-----
";

    #[test]
    fn an_unsound_certificate_in_the_systems_list_leaves_the_others_trusted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let unsound = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        std::fs::write(&file, format!("{unsound}{AUTHORITY}")).unwrap();
        assert_eq!(of_system(Some(file.path().to_owned())).unwrap().len(), 1);
    }

    #[test]
    fn a_list_without_an_authority_is_refused_with_its_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let said = of_system(Some(file.path().to_owned())).unwrap_err().to_string();
        assert!(said.contains(&file.path().display().to_string()), "{said}");
    }
}
