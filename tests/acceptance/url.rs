//! Volumes from a web server, which cuts, lies, leads elsewhere or serves something else.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sha2::{Digest, Sha256};

use crate::Case;
use crate::cli::Workspace;
use crate::web_server::{Answer, Content, Place, Request, Server};

pub(crate) const CASES: &[Case] = &[
    ("a_disk_of_a_web_server_is_continued_where_the_connection_broke", continued),
    ("a_source_that_fails_is_told_at_its_attribute_and_leaves_nothing", refused),
    ("what_others_make_under_the_name_during_an_upload_stays_theirs", overtaken),
    ("headers_of_a_source_are_sent_and_kept_nowhere", headers),
    ("a_backup_and_an_iso_come_from_a_web_server_too", backup_and_iso),
    ("two_gibibytes_pass_through_little_memory", large),
    ("an_upload_that_was_killed_is_made_anew_and_nothing_is_left", killed),
    ("an_upload_that_was_interrupted_leaves_nothing_and_is_made_anew", interrupted),
];

const ADDRESS: &str = "anklume_volume.it";
const TAG: &str = "\"one\"";

fn volume(domain: &str, kind: &str, source: &str) -> String {
    format!(
        "resource \"anklume_domain\" \"d\" {{\n  name = \"{domain}\"\n  storage_pool = \"default\"\n}}\n\n\
         resource \"anklume_volume\" \"it\" {{\n  name = \"data\"\n  domain = anklume_domain.d.name\n  delete_protection = false\n  \
         content_type = \"{kind}\"\n  source = {{ {source} }}\n}}\n"
    )
}

/// A server where the provider finds it.
fn serve(run: &Workspace, answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Server {
    Server::start(Place { namespace: Some(&run.network()), tls: None }, answer)
}

/// `length` bytes that differ everywhere.
fn disk(length: usize) -> (Content, String) {
    let bytes: Vec<u8> = (0..length).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
    let sha256 = digest(&bytes);
    (Content::Bytes(Arc::new(bytes)), sha256)
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a block volume of a `dir` pool.
fn image(run: &Workspace, domain: &str) -> PathBuf {
    run.lab().join(format!("incus/storage-pools/default/custom/{domain}_data/root.img"))
}

fn names(run: &Workspace, domain: &str) -> Vec<String> {
    run.incus().list(&format!("/1.0/storage-pools/default/volumes/custom?project={domain}"))
}

fn continued(run: &Workspace) {
    let (name, incus) = (run.domain("uraw"), run.incus());
    let (content, sha256) = disk(5_000_000);
    let file = content.clone();
    let server = serve(run, move |request| {
        let next = request.from().unwrap_or(0) + 2_000_000;
        match request.path.as_str() {
            "/other" => Answer::file(request, &file, TAG),
            _ => Answer::file(request, &file, TAG).cut(next),
        }
    });
    let source = |path: &str, sha256: &str| format!("url = \"{}\", sha256 = \"{sha256}\"", server.url(path));
    run.configure(&volume(&name, "block", &source("/disk.raw", &sha256)));
    run.apply();
    run.plan_is_empty();
    assert_eq!(server.seen().iter().map(Request::from).collect::<Vec<_>>(), [None, Some(2_000_000), Some(4_000_000)]);
    let bytes = fs::read(image(run, &name)).unwrap();
    // Rounded up to whole blocks of 8 KiB.
    assert_eq!((bytes.len(), run.attributes(ADDRESS)["size"].as_str()), (5_005_312, Some("5005312")));
    assert_eq!(digest(&bytes[..5_000_000]), sha256);
    assert!(bytes[5_000_000..].iter().all(|byte| *byte == 0));
    run.survives_import(ADDRESS, &format!("{name}/default/data"));

    // The same checksum in other words is the same, and elsewhere it is the same content.
    run.configure(&volume(&name, "block", &source("/disk.raw", &format!("sha256:{}", sha256.to_uppercase()))));
    run.plan_is_empty();
    let larger = volume(&name, "block", &source("/other", &sha256)).replace("  source", "  size = \"16MiB\"\n  source");
    let asked = server.seen().len();
    let there = || incus.volume(&name, "default", "data").unwrap();
    let before = there();
    run.configure(&volume(&name, "block", &source("/disk.raw?token=signed", &sha256)));
    run.plan_updates(&[ADDRESS]);
    let text = run.succeed(&["plan", "-input=false", "-no-color"]).text;
    assert!(text.contains("Secret in a URL"), "{text}");
    run.apply();
    run.plan_is_empty();
    assert_eq!(there(), before, "nothing is written");
    assert!(run.attributes(ADDRESS)["source"]["url"].as_str().unwrap().ends_with("=signed"));
    run.configure(&larger);
    run.plan_updates(&[ADDRESS]);
    run.apply();
    run.plan_is_empty();
    assert_eq!(server.seen().len(), asked, "nothing is fetched");
    let bytes = fs::read(image(run, &name)).unwrap();
    assert_eq!((bytes.len(), digest(&bytes[..5_000_000])), (16 << 20, sha256));
    run.destroy();
    assert!(incus.project(&name).is_none());
}

fn refused(run: &Workspace) {
    let name = run.domain("ubad");
    let (content, sha256) = disk(3_000_000);
    std::fs::write(run.dir().join("some"), vec![9; 1 << 20]).unwrap();
    let packed = std::process::Command::new("gzip").arg("-c").arg(run.dir().join("some")).output().unwrap().stdout;
    let of_packed = digest(&packed);
    let server = serve(run, move |request| {
        let file = || Answer::file(request, &content, TAG);
        match request.path.as_str() {
            "/gone" => Answer::text(404, "nothing"),
            "/closed" => Answer::text(401, "who are you"),
            "/page.raw" => Answer::text(200, "\n<!DOCTYPE html><html>Log in</html>"),
            "/disk.qcow2" => Answer::bytes(b"QFI\xfb and the rest"),
            "/disk.img.xz" => Answer::bytes(b"\xfd7zXZ\0 and the rest"),
            "/disk.gz" => Answer::bytes(&packed),
            "/round" => Answer::redirect("/round"),
            "/more" if request.from().is_none() => Answer::whole(&content).with("content-length", "4000000"),
            "/less" => Answer::whole(&content).with("content-length", "2000000"),
            "/changed" if request.nth == 0 => file().cut(1_000_000),
            "/changed" => Answer::file(request, &Content::Zeros(3_000_000), "\"two\""),
            "/unknown" => file().without_length(),
            "/encoded" => file().with("content-encoding", "gzip"),
            "/nowhere" => Answer::text(302, ""),
            "/disk.zip" => Answer::bytes(b"PK\x03\x04 and the rest"),
            _ => file(),
        }
    });
    let of = |kind: &str, path: &str, sha256: &str, rest: &str| {
        let source = format!("url = \"{}\", sha256 = \"{sha256}\"", server.url(path));
        volume(&name, kind, &source).replace("  source", &format!("{rest}  source"))
    };
    let nothing = "0".repeat(64);
    for (kind, path, sha256, rest, told) in [
        ("block", "/gone", &nothing, "", "There is no such file"),
        ("block", "/closed", &nothing, "", "Set them, such as"),
        ("block", "/page.raw", &nothing, "", "is a web page"),
        ("block", "/disk.qcow2", &nothing, "", "qemu-img convert -O raw disk.qcow2"),
        ("block", "/disk.img.xz", &nothing, "", "xz -d"),
        ("block", "/disk.gz", &of_packed, "", "If it is a compressed disk, unpack it"),
        ("block", "/round", &nothing, "", "leads on and on"),
        ("block", "/more", &sha256, "", "announced 4000000 bytes and has 3000000"),
        ("block", "/less", &sha256, "", "has 2000000 bytes with the SHA-256"),
        ("block", "/changed", &sha256, "", "has changed while it was read"),
        ("block", "/unknown", &sha256, "", "no `Content-Length`"),
        ("block", "/encoded", &sha256, "", "Name a server that sends it so"),
        ("block", "/nowhere", &sha256, "", "does not say where the file is"),
        ("block", "/disk.zip", &sha256, "", "unzip -p FILE"),
        ("block", "/disk.raw", &nothing, "", "not the one that is written"),
        ("block", "/disk.raw", &sha256, "  size = \"2MiB\"\n", "Write at least that much"),
        ("filesystem", "/disk.raw", &sha256, "", "content_type = \"block\""),
        ("iso", "/disk.raw", &nothing, "", "not the one that is written"),
    ] {
        run.configure(&of(kind, path, sha256, rest));
        let text = run.apply_fails();
        assert!(text.contains(told), "{path}: {text}");
        assert_eq!(names(run, &name), Vec::<String>::new(), "{path}");
    }
    assert!(!run.incus().project(&name).unwrap()["config"].to_string().contains("user.anklume.iso."));
    run.configure(&volume(&name, "block", &format!("url = \"{}\"", server.url("/disk.raw"))));
    let text = run.plan_fails();
    assert!(text.contains("URL without a checksum"), "{text}");
    run.configure(&of("block", "/disk.raw", &sha256, ""));
    run.apply();
    run.destroy();
}

fn overtaken(run: &Workspace) {
    let (name, incus) = (run.domain("uover"), run.incus());
    let (content, sha256) = disk(3_000_000);
    let made = Arc::<AtomicBool>::default();
    let is_made = Arc::clone(&made);
    let server = serve(run, move |request| {
        // The rest comes when the name is taken.
        while request.nth > 0 && !is_made.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(10));
        }
        Answer::file(request, &content, TAG).cut(if request.nth == 0 { 2_000_000 } else { u64::MAX })
    });
    run.configure(&volume(&name, "block", &format!("url = \"{}\", sha256 = \"{sha256}\"", server.url("/disk.raw"))));
    let text = std::thread::scope(|scope| {
        scope.spawn(|| {
            while server.seen().len() < 2 {
                std::thread::sleep(Duration::from_millis(10));
            }
            incus.run(&["storage", "volume", "create", "default", "data", "size=16MiB", "--project", &name, "-q"]);
            made.store(true, Ordering::Relaxed);
        });
        run.apply_fails()
    });
    assert!(text.contains(&format!("id = \"{name}/default/data\"")), "{text}");
    assert_eq!(names(run, &name).len(), 1, "{text}");
    assert_eq!(incus.volume(&name, "default", "data").unwrap()["config"]["size"], "16MiB");
    incus.run(&["storage", "volume", "delete", "default", "data", "--project", &name]);
    run.apply();
    run.plan_is_empty();
    run.destroy();
    assert!(incus.project(&name).is_none());
}

fn headers(run: &Workspace) {
    const SECRET: &str = "very-secret-0815";
    let name = run.domain("uhead");
    let (content, sha256) = disk(1 << 20);
    let server = serve(run, move |request| match request.header("authorization") {
        Some(value) if value == format!("Bearer {SECRET}") => Answer::file(request, &content, TAG),
        _ => Answer::text(401, SECRET),
    });
    let variable = "variable \"secret\" {\n  type      = string\n  ephemeral = true\n}\n\n";
    let source = |header: &str| {
        let url = server.url("/disk.raw");
        let of = format!("url = \"{url}\", sha256 = \"{sha256}\", headers = {{ {header} }}");
        format!("{variable}{}", volume(&name, "block", &of))
    };
    run.set("TF_VAR_secret", SECRET);
    run.set("TF_LOG", "trace");
    run.set("TF_LOG_PATH", run.dir().join("trace.log").to_str().unwrap());
    run.configure(&source("Authorization = var.secret"));
    let text = run.apply_fails();
    assert!(text.contains("The server gives the file to nobody"), "{text}");
    run.configure(&source("Authorization = \"Bearer ${var.secret}\""));
    run.succeed(&["plan", "-input=false", "-no-color", "-out=tfplan"]);
    assert!(!run.succeed(&["show", "-json", "tfplan"]).text.contains(SECRET));
    run.apply();
    run.plan_is_empty();
    // Another header is no change.
    run.configure(&source("Authorization = \"Bearer ${var.secret}\", X-More = \"1\""));
    run.plan_is_empty();
    run.survives_import(ADDRESS, &format!("{name}/default/data"));
    let shown = run.succeed(&["show", "-json"]).text;
    assert!(!shown.contains(SECRET));
    let there = run.incus().volume(&name, "default", "data").unwrap().to_string();
    assert!(!there.contains(SECRET) && there.contains("user.anklume.source"), "{there}");
    for entry in fs::read_dir(run.dir()).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        let bytes = fs::read(entry.path()).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(SECRET), "{}", entry.path().display());
    }
    assert!(fs::metadata(run.dir().join("trace.log")).unwrap().len() > 10_000, "there was a log to look at");
    run.destroy();
}

fn backup_and_iso(run: &Workspace) {
    let (name, incus) = (run.domain("utar"), run.incus());
    incus.run(&["project", "create", &format!("{name}s"), "-q"]);
    let project = ["--project", &format!("{name}s")];
    let tarball = run.dir().join("backup.tar.gz");
    incus.run(&[["storage", "volume", "create", "default", "old", "size=32MiB"].as_slice(), &project].concat());
    incus.run(
        &[["storage", "volume", "export", "default", "old", tarball.to_str().unwrap()].as_slice(), &project].concat(),
    );
    incus.run(&[["storage", "volume", "delete", "default", "old"].as_slice(), &project].concat());
    incus.run(&["project", "delete", &format!("{name}s")]);
    let backup = fs::read(&tarball).unwrap();
    let (iso, iso_sha256) = disk(3 << 20);
    let sha256 = digest(&backup);
    let backup = Content::Bytes(Arc::new(backup));
    let server = serve(run, move |request| match request.path.as_str() {
        "/backup" => Answer::file(request, &backup, TAG).without_length(),
        _ => Answer::file(request, &iso, TAG).cut(request.from().unwrap_or(1 << 20).max(1 << 20) * 2),
    });
    run.configure(&volume(&name, "filesystem", &format!("url = \"{}\", sha256 = \"{sha256}\"", server.url("/backup"))));
    run.apply();
    run.plan_is_empty();
    assert_eq!(run.attributes(ADDRESS)["size"], "32MiB");
    let cd = format!("url = \"{}\", sha256 = \"{iso_sha256}\"", server.url("/cd.iso"));
    run.configure(&volume(&name, "iso", &cd));
    run.apply();
    run.plan_is_empty();
    assert_eq!(run.attributes(ADDRESS)["size"], (3 << 20).to_string());
    run.survives_import(ADDRESS, &format!("{name}/default/data"));
    run.destroy();
    assert!(incus.project(&name).is_none());
}

/// The largest that any process of the provider in the workspace has been, in bytes, looked at until `end`.
fn watch(dir: PathBuf, peak: Arc<AtomicU64>, end: Arc<AtomicBool>) {
    let provider = Path::new(env!("CARGO_BIN_EXE_terraform-provider-anklume"));
    while !end.load(Ordering::Relaxed) {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let is = |link: &str, path: &Path| fs::read_link(entry.path().join(link)).is_ok_and(|found| found == path);
            if is("exe", provider) && is("cwd", &dir) {
                let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
                let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
                let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
                peak.fetch_max(kilobytes.unwrap_or(0) << 10, Ordering::Relaxed);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn large(here: &Workspace) {
    const LENGTH: u64 = 2 << 30;
    /// Of so many zeros.
    const SHA256: &str = "a7c744c13cc101ed66c29f672f92455547889cc586ce6d44fe76ae824958ea51";
    let run = here.elsewhere("large", &[]);
    let name = run.domain("ularge");
    let server = serve(&run, move |request| {
        Answer::file(request, &Content::Zeros(LENGTH), TAG).cut(if request.nth == 0 { LENGTH / 2 } else { LENGTH })
    });
    run.configure(&volume(&name, "block", &format!("url = \"{}\", sha256 = \"{SHA256}\"", server.url("/disk.raw"))));
    let (peak, end) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
    let watching = {
        let (dir, peak, end) = (run.dir().to_owned(), Arc::clone(&peak), Arc::clone(&end));
        std::thread::spawn(move || watch(dir, peak, end))
    };
    let begun = Instant::now();
    run.apply();
    let took = begun.elapsed();
    end.store(true, Ordering::Relaxed);
    watching.join().unwrap();
    let peak = peak.load(Ordering::Relaxed);
    println!(
        "2 GiB from a web server that cut the connection once, into a volume in {:.1} s: the provider held at most {:.1} MiB",
        took.as_secs_f64(),
        peak as f64 / f64::from(1 << 20)
    );
    assert!(peak > 0 && peak < 32 << 20, "{peak} bytes");
    assert_eq!(server.seen().iter().map(Request::from).collect::<Vec<_>>(), [None, Some(LENGTH / 2)]);
    run.plan_is_empty();
    assert_eq!(run.attributes(ADDRESS)["size"], LENGTH.to_string());
    run.destroy();
    assert_eq!(run.leftovers(), Vec::<String>::new());
}

fn killed(run: &Workspace) {
    let (name, incus) = (run.domain("ukill"), run.incus());
    let length = 512 << 20;
    let sha256 = digest(&vec![0; length]);
    let server = serve(run, move |request| {
        let file = Answer::file(request, &Content::Zeros(length as u64), TAG);
        if request.nth == 0 { file.cut(32 << 20).hang() } else { file }
    });
    run.configure(&volume(&name, "block", &format!("url = \"{}\", sha256 = \"{sha256}\"", server.url("/disk.raw"))));
    // While the source is read ...
    run.interrupted_apply(Signal::KILL, || !server.seen().is_empty());
    // ... and while Incus unpacks what it has whole.
    let temporary = || names(run, &name).iter().any(|name| name.contains("/custom/anklume-"));
    run.interrupted_apply(Signal::KILL, temporary);
    assert!(temporary());
    // What is left goes, whatever is configured by now.
    let source = format!("url = \"{}\", sha256 = \"{sha256}\"", server.url("/disk.raw"));
    run.configure(&volume(&name, "block", &source).replace("  source", "  description = \"another\"\n  source"));
    run.apply();
    run.plan_is_empty();
    assert_eq!(names(run, &name).len(), 1);
    assert_eq!(run.attributes(ADDRESS)["size"], length.to_string());
    run.destroy();
    assert!(incus.project(&name).is_none());
}

/// By a Ctrl-C while the server says nothing more: a disk whose length is known, and an ISO that could pass for whole.
fn interrupted(here: &Workspace) {
    let run = &here.elsewhere("interrupted", &[]);
    // What Incus has of an upload, in bytes.
    let spooled = || -> u64 {
        let directories = ["incus/backups", "incus/isos"].map(|name| fs::read_dir(run.lab().join(name)));
        let entries = directories.into_iter().flatten().flatten().flatten();
        entries.filter_map(|entry| entry.metadata().ok()).filter(fs::Metadata::is_file).map(|about| about.len()).sum()
    };
    let (name, incus) = (run.domain("uint"), run.incus());
    let (content, sha256) = disk(3 << 20);
    let heals = Arc::<AtomicBool>::default();
    let healed = Arc::clone(&heals);
    let server = serve(run, move |request| {
        let file = Answer::file(request, &content, TAG);
        let file = if request.path == "/cd.iso" { file.without_length() } else { file };
        if healed.load(Ordering::Relaxed) { file } else { file.cut(2 << 20).hang() }
    });
    for (kind, path) in [("block", "/disk.raw"), ("iso", "/cd.iso")] {
        heals.store(false, Ordering::Relaxed);
        run.configure(&volume(&name, kind, &format!("url = \"{}\", sha256 = \"{sha256}\"", server.url(path))));
        let asked = server.seen().len();
        let received = || server.seen().len() > asked && spooled() > 1 << 20;
        let (took, text) = run.interrupted_apply(Signal::INT, received);
        assert!(took < Duration::from_secs(8), "the client took {took:?} to end");
        assert!(text.contains("interrupted"), "{text}");
        assert_eq!(names(run, &name), Vec::<String>::new(), "{text}");
        assert!(!run.succeed(&["state", "list"]).text.contains(ADDRESS));
        assert!(!incus.project(&name).unwrap()["config"].to_string().contains("user.anklume.iso."));
        let ended = Instant::now();
        while spooled() > 0 {
            assert!(ended.elapsed() < Duration::from_secs(10), "Incus keeps what it had of {path}");
            std::thread::sleep(Duration::from_millis(50));
        }
        heals.store(true, Ordering::Relaxed);
        run.apply();
        run.plan_is_empty();
        assert_eq!(names(run, &name).len(), 1);
    }
    run.destroy();
    assert_eq!(run.leftovers(), Vec::<String>::new());
}
