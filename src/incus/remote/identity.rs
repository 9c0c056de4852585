//! Certificates and keys: read, or made where a token needs a pair.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::super::endpoint::Identity;
use super::Error;

/// PEM text as it is, anything else as a path to it. `setting` is the field that it stands in.
pub(super) fn text(setting: &'static str, value: &str) -> Result<String, Error> {
    if value.contains("-----BEGIN") {
        return Ok(value.to_owned());
    }
    std::fs::read_to_string(value).map_err(|source| Error::ReadSetting { setting, source })
}

pub(super) fn file(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

pub(super) fn der(pem: &str) -> Result<Vec<u8>, Error> {
    let certificate =
        CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|source| Error::BadCertificate { source })?;
    Ok(certificate.to_vec())
}

/// 64 hex digits; colons and case do not matter.
pub(super) fn sha256(text: &str) -> Result<[u8; 32], Error> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| *c != ':')
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or(Error::BadFingerprint))
        .collect::<Result<_, _>>()?;
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    if digits.len() != 64 {
        return Err(Error::BadFingerprint);
    }
    bytes.try_into().map_err(|_| Error::BadFingerprint)
}

/// Makes `client.crt` and `client.key` in `dir`, the key readable by its owner only. The key is written first and never
/// over another one.
pub(super) fn generate(dir: &Path) -> Result<Identity, Error> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Generate { path: dir.to_owned(), source };
    let pair = rcgen::KeyPair::generate().map_err(|error| failed(error.into()))?;
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "anklume");
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "Linux Containers");
    params.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
    let certificate = params.self_signed(&pair).map_err(|error| failed(error.into()))?;
    let identity = Identity { certificate_pem: certificate.pem(), key_pem: pair.serialize_pem() };
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(dir)?;
        create(&dir.join("client.key"), 0o600)?.write_all(identity.key_pem.as_bytes())?;
        create(&dir.join("client.crt"), 0o644)?.write_all(identity.certificate_pem.as_bytes())
    };
    write().map_err(|error| failed(error.into()))?;
    Ok(identity)
}

fn create(path: &Path, mode: u32) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}
