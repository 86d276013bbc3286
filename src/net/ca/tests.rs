use super::*;

const FILES: [&str; 4] = ["ca.pem", "ca.key", "server.pem", "server.key"];

fn day(n: i64) -> OffsetDateTime {
    // 2026-01-01; every test sets its own days after.
    OffsetDateTime::from_unix_timestamp(1_767_225_600).unwrap() + Duration::days(n)
}

fn ensure(dir: &Path, names: &[&str], now: OffsetDateTime, leaf: Leaf) -> Result<Material, CertError> {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    Authority::new(dir, now).ensure(Names { configured: &names, found: &[] }, leaf)
}

fn facts(pem: &[u8]) -> Facts {
    Facts::of(&CertificateDer::from_pem_slice(pem).unwrap()).unwrap()
}

fn contents(dir: &Path) -> Vec<Option<Vec<u8>>> {
    FILES.iter().map(|f| std::fs::read(dir.join(f)).ok()).collect()
}

#[test]
fn a_first_start_makes_everything_and_a_second_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("deep/certs");
    let made = ensure(&dir, &["Mail.Home.arpa", "192.168.1.5", "127.0.0.1"], day(0), Leaf::Keep).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |f: &str| std::fs::metadata(dir.join(f)).unwrap().permissions().mode() & 0o777;
        assert_eq!(FILES.map(mode), [0o644, 0o600, 0o644, 0o600]);
    }
    let leaf = facts(&made.cert_pem);
    assert_eq!(leaf.names, ["localhost", "127.0.0.1", "::1", "mail.home.arpa", "192.168.1.5"]);
    assert!(leaf.not_after - leaf.not_before <= Duration::days(397));
    assert!(leaf.not_before < day(0));
    let ca = facts(made.ca_pem.unwrap().as_bytes());
    assert!(ca.not_after > day(3600) && leaf.issuer == ca.subject);
    let before = contents(&dir);
    ensure(&dir, &["192.168.1.5"], day(300), Leaf::Keep).unwrap();
    assert_eq!(contents(&dir), before);
}

#[test]
fn the_leaf_says_what_clients_want_of_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let made = ensure(dir.path(), &[], day(0), Leaf::Keep).unwrap();
    let der = CertificateDer::from_pem_slice(&made.cert_pem).unwrap();
    let (_, cert) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert!(cert.extended_key_usage().unwrap().unwrap().value.server_auth);
    assert!(cert.key_usage().unwrap().unwrap().value.digital_signature());
    assert!(!cert.basic_constraints().unwrap().unwrap().value.ca);
    let ca = CertificateDer::from_pem_slice(made.ca_pem.unwrap().as_bytes()).unwrap();
    let (_, ca) = x509_parser::parse_x509_certificate(&ca).unwrap();
    let constraints = ca.basic_constraints().unwrap().unwrap().value;
    assert!(constraints.ca && constraints.path_len_constraint == Some(0));
    assert!(ca.key_usage().unwrap().unwrap().value.key_cert_sign());
}

#[test]
fn a_leaf_is_renewed_before_its_end_with_the_same_authority_and_keys() {
    let dir = tempfile::tempdir().unwrap();
    let first = ensure(dir.path(), &[], day(0), Leaf::Keep).unwrap();
    let kept = ensure(dir.path(), &[], day(365), Leaf::Keep).unwrap();
    assert_eq!(first.cert_pem, kept.cert_pem);
    let renewed = ensure(dir.path(), &[], day(367), Leaf::Keep).unwrap();
    assert_ne!(first.cert_pem, renewed.cert_pem);
    assert_eq!((first.key_pem, first.ca_pem), (renewed.key_pem, renewed.ca_pem));
    assert!(facts(&renewed.cert_pem).not_after > day(760));
    let serial = |pem: &[u8]| {
        let der = CertificateDer::from_pem_slice(pem).unwrap();
        x509_parser::parse_x509_certificate(&der).unwrap().1.raw_serial().to_vec()
    };
    assert_ne!(serial(&first.cert_pem), serial(&renewed.cert_pem), "an issuer must not repeat a serial");
    // Made under a clock that was ahead: it is not valid yet, so it is made again.
    let earlier = ensure(dir.path(), &[], day(10), Leaf::Keep).unwrap();
    assert!(facts(&earlier.cert_pem).not_before < day(10));
}

#[test]
fn a_missing_name_makes_a_new_leaf_that_keeps_the_old_names() {
    let dir = tempfile::tempdir().unwrap();
    ensure(dir.path(), &["home.lan"], day(0), Leaf::Keep).unwrap();
    let both = ensure(dir.path(), &["office.lan"], day(1), Leaf::Keep).unwrap();
    assert_eq!(facts(&both.cert_pem).names[3..], ["office.lan", "home.lan"]);
    let kept = ensure(dir.path(), &["home.lan"], day(2), Leaf::Keep).unwrap();
    assert_eq!(both.cert_pem, kept.cert_pem);
    let replaced = ensure(dir.path(), &["home.lan"], day(2), Leaf::Replace).unwrap();
    assert_eq!(facts(&replaced.cert_pem).names[3..], ["home.lan"]);
    // A thousand networks do not make an endless certificate.
    for i in 0..60 {
        ensure(dir.path(), &[&format!("n{i}.lan")], day(3), Leaf::Keep).unwrap();
    }
    let many = ensure(dir.path(), &["n59.lan"], day(3), Leaf::Keep).unwrap();
    assert_eq!(facts(&many.cert_pem).names.len(), MAX_NAMES);
}

#[test]
fn a_damaged_file_is_named_and_left_alone() {
    for damaged in FILES {
        for content in [&b""[..], b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\xff\xfe"] {
            let dir = tempfile::tempdir().unwrap();
            ensure(dir.path(), &[], day(0), Leaf::Keep).unwrap();
            std::fs::write(dir.path().join(damaged), content).unwrap();
            let before = contents(dir.path());
            let e = ensure(dir.path(), &[], day(0), Leaf::Keep).err().unwrap_or_else(|| panic!("{damaged} was taken"));
            assert!(
                e.to_string().contains(damaged) && e.to_string().contains("delete") | e.to_string().contains("Delete"),
                "{e}"
            );
            assert_eq!(contents(dir.path()), before, "{damaged}");
        }
    }
}

#[test]
fn files_that_do_not_belong_together_are_told() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for dir in [&a, &b] {
        ensure(dir.path(), &[], day(0), Leaf::Keep).unwrap();
    }
    for file in ["ca.key", "server.key"] {
        let own = std::fs::read(a.path().join(file)).unwrap();
        std::fs::copy(b.path().join(file), a.path().join(file)).unwrap();
        let e = ensure(a.path(), &[], day(0), Leaf::Keep).err().unwrap();
        assert!(e.to_string().contains("does not belong to the key"), "{e}");
        std::fs::write(a.path().join(file), own).unwrap();
    }
    // A whole other authority: the leaf is signed anew, as clients trust what ca.pem says.
    for file in ["ca.pem", "ca.key"] {
        std::fs::copy(b.path().join(file), a.path().join(file)).unwrap();
    }
    let before = std::fs::read(a.path().join("server.pem")).unwrap();
    let made = ensure(a.path(), &[], day(0), Leaf::Keep).unwrap();
    assert_ne!(made.cert_pem, before);
    assert_eq!(facts(&made.cert_pem).issuer, facts(made.ca_pem.unwrap().as_bytes()).subject);
}

#[test]
fn a_start_cut_short_at_any_file_goes_on() {
    // What stands on the disk after a crash, in the order of writing.
    for kept in [&["ca.key"][..], &["ca.key", "ca.pem"], &["ca.key", "ca.pem", "server.key"]] {
        let dir = tempfile::tempdir().unwrap();
        ensure(dir.path(), &[], day(0), Leaf::Keep).unwrap();
        let before = contents(dir.path());
        for file in FILES.iter().filter(|f| !kept.contains(f)) {
            std::fs::remove_file(dir.path().join(file)).unwrap();
        }
        ensure(dir.path(), &[], day(0), Leaf::Keep).unwrap();
        for (file, (before, after)) in FILES.iter().zip(before.into_iter().zip(contents(dir.path()))) {
            assert!(after.is_some(), "{kept:?}: {file} is missing");
            assert!(!kept.contains(file) || before == after, "{kept:?}: {file} was replaced");
        }
    }
}

#[test]
fn without_the_authoritys_key_the_leaf_serves_until_its_end() {
    let dir = tempfile::tempdir().unwrap();
    ensure(dir.path(), &[], day(0), Leaf::Keep).unwrap();
    std::fs::remove_file(dir.path().join("ca.key")).unwrap();
    ensure(dir.path(), &[], day(300), Leaf::Keep).unwrap();
    let e = ensure(dir.path(), &[], day(380), Leaf::Keep).err().unwrap();
    assert!(e.to_string().contains("ca.key") && e.to_string().contains("backup"), "{e}");
    let e = ensure(dir.path(), &[], day(4000), Leaf::Keep).err().unwrap();
    assert!(e.to_string().contains("expired"), "{e}");
}

#[cfg(unix)]
#[test]
fn a_key_others_can_read_is_taken_from_them() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    ensure(dir.path(), &[], day(0), Leaf::Keep).unwrap();
    for file in ["ca.key", "server.key"] {
        let path = dir.path().join(file);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        ensure(dir.path(), &[], day(0), Leaf::Keep).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn the_authority_signs_for_its_own_names_only() {
    let dir = tempfile::tempdir().unwrap();
    let made = ensure(dir.path(), &["mail.example.org"], day(0), Leaf::Keep).unwrap();
    let ca = CertificateDer::from_pem_slice(made.ca_pem.unwrap().as_bytes()).unwrap();
    let (_, cert) = x509_parser::parse_x509_certificate(&ca).unwrap();
    assert!(cert.name_constraints().unwrap().unwrap().critical);
    let usage = cert.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && !usage.any && !usage.email_protection && !usage.code_signing);
    // A name of somebody else's, asked for later: told, and nothing is changed.
    let before = contents(dir.path());
    let e = ensure(dir.path(), &["mail.example.org", "mail.example.com"], day(1), Leaf::Keep).err().unwrap();
    assert!(e.to_string().contains("`mail.example.com`") && e.to_string().contains("delete"), "{e}");
    assert_eq!(contents(dir.path()), before);
    // Found, not asked for: left out.
    let found = ["pc.example.com".to_owned(), "pc.local".to_owned()];
    let names = Names { configured: &[], found: &found };
    let leaf = facts(&Authority::new(dir.path(), day(1)).ensure(names, Leaf::Keep).unwrap().cert_pem);
    assert_eq!(leaf.names[3..], ["pc.local", "mail.example.org"]);
    // A leaf for the other name, signed with the stolen key, is taken by nobody.
    let key = KeyPair::from_pem(&std::fs::read_to_string(dir.path().join("ca.key")).unwrap()).unwrap();
    let stolen = Ca { key: None, der: ca.clone(), pem: String::new() };
    for (name, taken) in [("localhost", true), ("mail.example.com", false)] {
        let mut params = CertificateParams::new([name.to_owned(), "localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        (params.not_before, params.not_after) = (day(0), day(9));
        let issuer = Issuer::from_ca_cert_der(&ca, &key).unwrap();
        let forged = params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
        assert_eq!(stolen.vouches_for(forged.der(), day(1)), taken, "{name}");
    }
}
