use std::fs;
use std::os::unix::fs::PermissionsExt;

use base64::Engine;

use super::*;

const CONFIG: &str = "default-remote: lab
remotes:
  lab: {addr: 'https://a:1,https://b', auth_type: tls, project: own, protocol: incus}
  sso: {addr: 'https://sso', auth_type: oidc}
  images: {addr: 'https://images', protocol: simplestreams, public: true}
";

fn cli() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.yml"), CONFIG).unwrap();
    dir
}

fn in_dir(dir: &tempfile::TempDir) -> Environment {
    Environment { config_dir: Some(dir.path().to_owned()), ..Environment::default() }
}

fn accepting() -> Settings {
    Settings { accept_remote_certificate: Some(true), ..Settings::default() }
}

fn token(fingerprint: &str) -> String {
    let json =
        serde_json::json!({"client_name": "c", "fingerprint": fingerprint, "addresses": ["t:8443"], "secret": "s"});
    base64::engine::general_purpose::STANDARD.encode(json.to_string())
}

#[test]
fn the_default_remote_of_the_cli_is_taken_last_but_before_the_socket() {
    let dir = cli();
    let target = resolve(&accepting(), &in_dir(&dir)).unwrap();
    let Endpoint::Https { addresses, pin: Pin::AcceptAny, .. } = target.endpoint else { panic!("no https") };
    assert_eq!(addresses, ["a:1", "b"]);
}

#[test]
fn settings_go_before_the_environment_and_that_before_the_cli() {
    let dir = cli();
    let mut environment = in_dir(&dir);
    environment.socket = Some("/env".into());
    assert_eq!(resolve(&Settings::default(), &environment).unwrap().endpoint, Endpoint::Unix("/env".into()));
    environment.address = Some("unix:///addr".into());
    assert_eq!(resolve(&Settings::default(), &environment).unwrap().endpoint, Endpoint::Unix("/addr".into()));
    let settings = Settings { address: Some("unix:///block".into()), ..Settings::default() };
    environment.remote = Some("lab".into());
    assert_eq!(resolve(&settings, &environment).unwrap().endpoint, Endpoint::Unix("/block".into()));
}

#[test]
fn an_unknown_remote_lists_the_known_ones() {
    let dir = cli();
    let settings = Settings { remote: Some("nix".into()), ..Settings::default() };
    let error = resolve(&settings, &in_dir(&dir)).unwrap_err();
    assert_eq!(error.to_string(), r#"unknown remote "nix""#);
    let Error::UnknownRemote { known, .. } = error else { panic!("{error}") };
    assert_eq!(known, ["images", "lab", "local", "sso"]);
}

#[test]
fn a_remote_with_oidc_is_refused() {
    let dir = cli();
    let settings = Settings { remote: Some("sso".into()), ..Settings::default() };
    assert!(matches!(resolve(&settings, &in_dir(&dir)), Err(Error::NeedsOidc { .. })));
    let settings = Settings { remote: Some("images".into()), ..Settings::default() };
    assert!(matches!(resolve(&settings, &in_dir(&dir)), Err(Error::ImageServer { .. })));
}

#[test]
fn https_without_a_pin_is_refused() {
    let settings = Settings { address: Some("https://h".into()), ..Settings::default() };
    assert!(matches!(resolve(&settings, &Environment::default()), Err(Error::NoPin { .. })));
    let settings = Settings { address: Some("http://h".into()), ..Settings::default() };
    assert!(matches!(resolve(&settings, &Environment::default()), Err(Error::BadAddress { .. })));
}

#[test]
fn a_token_brings_address_and_pin_and_makes_a_pair_that_only_its_owner_reads() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { token: Some(token(&"ab".repeat(32))), ..Settings::default() };
    let target = resolve(&settings, &in_dir(&dir)).unwrap();
    let Endpoint::Https { addresses, identity: Some(made), pin } = target.endpoint else { panic!("no https") };
    assert_eq!((addresses, pin), (vec!["t:8443".to_owned()], Pin::Sha256([0xab; 32])));
    let mode = fs::metadata(dir.path().join("client.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = resolve(&settings, &in_dir(&dir)).unwrap();
    let Endpoint::Https { identity: Some(kept), .. } = again.endpoint else { panic!("no https") };
    assert!(made == kept);
}

#[test]
fn a_bad_token_or_fingerprint_is_told() {
    let settings = Settings { token: Some("???".into()), ..Settings::default() };
    assert!(matches!(resolve(&settings, &Environment::default()), Err(Error::BadToken)));
    let settings =
        Settings { address: Some("https://h".into()), server_fingerprint: Some("abc".into()), ..Settings::default() };
    assert!(matches!(resolve(&settings, &Environment::default()), Err(Error::BadFingerprint)));
}

#[test]
fn the_first_directory_with_a_socket_is_taken() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(two.path().join("unix.socket"), "").unwrap();
    let environment =
        Environment { daemon_dirs: vec![one.path().to_owned(), two.path().to_owned()], ..Environment::default() };
    let target = resolve(&Settings::default(), &environment).unwrap();
    assert_eq!(target.endpoint, Endpoint::Unix(two.path().join("unix.socket")));
}

#[test]
fn the_restricted_socket_is_refused_as_it_has_one_project() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("unix.socket.user"), "").unwrap();
    let environment = Environment { dir: Some(dir.path().to_owned()), ..Environment::default() };
    let refused = resolve(&Settings::default(), &environment);
    assert!(matches!(refused, Err(Error::Restricted { path }) if path == dir.path().join("unix.socket.user")));
}

#[test]
fn a_check_says_what_is_wrong_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { token: Some(token(&"ab".repeat(32))), ..Settings::default() };
    check(&settings, &in_dir(&dir)).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let settings = Settings { address: Some("http://h".into()), ..Settings::default() };
    assert!(matches!(check(&settings, &in_dir(&dir)), Err(Error::BadAddress { .. })));
}

#[test]
fn what_cannot_be_read_is_named_by_its_setting_and_a_key_is_not_shown() {
    let certificate = "-----BEGIN CERTIFICATE-----";
    let settings = Settings {
        address: Some("https://h".into()),
        accept_remote_certificate: Some(true),
        client_certificate: Some(certificate.into()),
        client_key: Some("MIGHAgEAMBMGByqGSM49".into()),
        ..Settings::default()
    };
    let error = check(&settings, &Environment::default()).unwrap_err();
    assert!(matches!(error, Error::ReadSetting { setting: "client_key", .. }));
    assert!(!error.to_string().contains("MIGH"));
}

#[test]
fn a_machine_without_remotes_is_not_asked_for_one() {
    let settings = Settings { remote: Some("prod".into()), ..Settings::default() };
    check(&settings, &Environment::default()).unwrap();
    assert!(resolve(&settings, &Environment::default()).is_err());
    assert!(check(&settings, &in_dir(&cli())).is_err());
}
