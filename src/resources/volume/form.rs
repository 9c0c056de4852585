//! What a file is, by how it begins. Pure.

use crate::plugin::Problem;

/// So many bytes tell what a file is: up to the magic of an optical disk.
pub(super) const TELLING_BYTES: usize = OPTICAL.0 + OPTICAL.1.len();

/// Where the first volume descriptor of ISO 9660 has its magic.
const OPTICAL: (usize, &[u8]) = (32_769, b"CD001");

/// What Incus takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A tarball as `incus storage volume export` writes it, compressed or not.
    Backup,
    /// An optical disk.
    Iso,
    /// The bytes of a disk, to be wrapped into a backup.
    Raw,
}

/// Formats of disks that Incus does not take, by what stands where.
const DISKS: [(usize, &[u8], &str); 10] = [
    (0, b"QFI\xfb", "qcow2"),
    (0, b"KDMV", "VMDK"),
    (0, b"COWD", "VMDK"),
    (0, b"# Disk DescriptorFile", "VMDK"),
    (0, b"vhdxfile", "VHDX"),
    (0, b"conectix", "VHD"),
    (64, b"\x7f\x10\xda\xbe", "VDI"),
    (0, b"QED\0", "QED"),
    (0, b"WithoutFreeSpace", "Parallels"),
    (0, b"WithouFreSpacExt", "Parallels"),
];

/// Archives that Incus takes for nothing.
const ARCHIVES: [(&[u8], &str, &str); 6] = [
    (b"PK\x03\x04", "zip", "unzip -p FILE"),
    (b"7z\xbc\xaf\x27\x1c", "7z", "7z e -so FILE"),
    (b"Rar!\x1a\x07", "rar", "unrar p -inul FILE"),
    (b"LZIP", "lzip", "lzip -dc FILE"),
    (b"\x89LZO\0", "lzop", "lzop -dc FILE"),
    (b"\x1f\x9d", "compress", "uncompress -c FILE"),
];

/// How a tarball may be packed, and what unpacks it.
const PACKED: [(&[u8], &str, &str); 7] = [
    (b"\x1f\x8b", "gzip", "gzip -d"),
    (b"\xfd7zXZ\0", "xz", "xz -d"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd -d"),
    (b"BZh", "bzip2", "bzip2 -d"),
    (b"\x5d\0\0", "lzma", "xz -d --format=lzma"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4 -d"),
    (b"hsqs", "squashfs", "sqfs2tar"),
];

/// How an answer begins that is about the file and not the file.
const ANSWERS: [(&str, &str); 4] =
    [("<!doctype html", "a web page"), ("<html", "a web page"), ("<?xml", "an XML text"), ("{\"", "a JSON text")];

/// What a file that begins with `first` is, for a volume of `content_type`; `name` is how the operator knows it.
///
/// # Errors
///
/// Why Incus does not take it, and what to do.
pub(super) fn of(content_type: &str, name: &str, first: &[u8]) -> Result<Form, Problem> {
    let has = |at: usize, magic: &[u8]| first.get(at..).is_some_and(|rest| rest.starts_with(magic));
    if let Some((.., format)) = DISKS.iter().find(|(at, magic, _)| has(*at, magic)) {
        return Err(disk(name, format));
    }
    if let Some((_, format, unpack)) = ARCHIVES.iter().find(|(magic, ..)| has(0, magic)) {
        return Err(archive(name, format, unpack));
    }
    let text = String::from_utf8_lossy(&first[..first.len().min(256)]);
    let text = text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']).to_ascii_lowercase();
    if let Some((_, what)) = ANSWERS.iter().find(|(begin, _)| text.starts_with(begin)) {
        return Err(Problem::new(
            "Unable to create volume: its source is another file",
            format!(
                "\"{name}\" is {what}. Often that is a page about the file, or one to log in; write where the file itself is."
            ),
        ));
    }
    let packed = PACKED.iter().find(|(magic, ..)| first.starts_with(magic));
    let is_tarball = has(257, b"ustar");
    match (content_type, packed) {
        ("iso", Some((_, format, unpack))) => Err(compressed(name, format, unpack, "an optical disk")),
        ("iso", None) if is_tarball => Err(Problem::new(
            "Unable to create volume: its source is no optical disk",
            format!("\"{name}\" is a tarball. Name an ISO image, or for a backup remove `content_type`."),
        )),
        ("iso", None) => Ok(Form::Iso),
        ("block", Some((_, format, unpack))) if is_named_as_a_disk(name) => {
            Err(compressed(name, format, unpack, "a raw disk"))
        }
        (_, Some(_)) => Ok(Form::Backup),
        (_, None) if is_tarball => Ok(Form::Backup),
        ("block", None) if has(OPTICAL.0, OPTICAL.1) => Err(Problem::new(
            "Unable to create volume: its source is an optical disk",
            format!("\"{name}\" is an ISO image. Write `content_type = \"iso\"`, without `size`."),
        )),
        ("block", None) => Ok(Form::Raw),
        _ => Err(Problem::new(
            "Unable to create volume: Incus does not take the file",
            no_backup(name, content_type, first),
        )),
    }
}

/// What Incus' refusal of a backup means.
pub(super) fn no_backup(name: &str, content_type: &str, first: &[u8]) -> String {
    let packed = PACKED.iter().find(|(magic, ..)| first.starts_with(magic));
    let more = match (content_type, packed) {
        ("block", Some((_, _, unpack))) => format!(
            " If it is a compressed disk, unpack it, and name the raw one with its own checksum:\n\n    {unpack} < FILE > disk.raw"
        ),
        ("block", None) => String::new(),
        _ => " A raw disk becomes a volume with `content_type = \"block\"`, an optical one with `\"iso\"`.".to_owned(),
    };
    let also = if content_type == "block" { " beside raw disks" } else { "" };
    format!(
        "\"{name}\" is no whole backup as `incus storage volume export` writes it, which is all that Incus takes for this `content_type`{also}.{more}"
    )
}

fn disk(name: &str, format: &str) -> Problem {
    let file = name.split('?').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    Problem::new(
        format!("Unable to create volume: Incus does not take {format}"),
        format!(
            "\"{name}\" is a {format} disk. Convert it, and name the raw one with `content_type = \"block\"`:\n\n    qemu-img convert -O raw {file} disk.raw"
        ),
    )
}

fn compressed(name: &str, format: &str, unpack: &str, what: &str) -> Problem {
    Problem::new(
        "Unable to create volume: its source is compressed",
        format!(
            "\"{name}\" is packed with {format}, and Incus takes {what} only as it is. Unpack it, and name that file with its own checksum:\n\n    {unpack} < FILE > disk.raw"
        ),
    )
}

fn archive(name: &str, format: &str, unpack: &str) -> Problem {
    Problem::new(
        "Unable to create volume: its source is an archive",
        format!(
            "\"{name}\" is packed with {format}, which Incus does not take. Unpack it, and name what it holds with a checksum of its own:\n\n    {unpack} > disk.raw"
        ),
    )
}

/// Whether a packed file is a disk by its name, as in `disk.raw.xz`.
fn is_named_as_a_disk(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let file = name.rsplit('/').next().unwrap_or_default();
    let inner = file.rsplit_once('.').map_or("", |(inner, _)| inner);
    ["raw", "img", "iso", "bin", "disk"].iter().any(|end| inner.ends_with(&format!(".{end}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tarball() -> Vec<u8> {
        let mut first = vec![0; TELLING_BYTES];
        first[257..262].copy_from_slice(b"ustar");
        first
    }

    #[track_caller]
    fn is(content_type: &str, name: &str, first: &[u8], form: Form) {
        assert_eq!(of(content_type, name, first).unwrap(), form);
    }

    #[track_caller]
    fn refused(content_type: &str, name: &str, first: &[u8], told: &str) {
        let problem = of(content_type, name, first).unwrap_err();
        assert!(problem.detail.contains(told) && problem.detail.contains(name), "{}", problem.detail);
    }

    #[test]
    fn a_file_is_told_by_how_it_begins() {
        is("filesystem", "x", &tarball(), Form::Backup);
        is("block", "x", &tarball(), Form::Backup);
        is("filesystem", "x.tar.gz", b"\x1f\x8b\x08", Form::Backup);
        is("block", "backup.tar.zst", b"\x28\xb5\x2f\xfd", Form::Backup);
        is("block", "disk.raw", b"\xeb\x63\x90", Form::Raw);
        is("block", "disk.raw", &[0; 512], Form::Raw);
        is("iso", "cd.iso", &[0; 512], Form::Iso);
    }

    #[test]
    fn what_incus_does_not_take_is_refused_with_what_to_do() {
        refused("block", "a/disk.qcow2", b"QFI\xfb\0\0", "qemu-img convert -O raw disk.qcow2");
        refused("filesystem", "x", b"KDMV", "VMDK");
        refused("block", "https://host/disk.img.xz", b"\xfd7zXZ\0", "xz -d");
        refused("iso", "cd.iso.gz", b"\x1f\x8b", "gzip -d");
        refused("iso", "x.tar", &tarball(), "tarball");
        refused("block", "https://host/x", b"\n <!DOCTYPE html><html>", "a web page");
        refused("block", "https://host/x", b"{\"error\": 1}", "JSON");
        refused("filesystem", "disk.raw", &[0; 512], "content_type = \"block\"");
    }

    #[test]
    fn nothing_but_a_raw_disk_is_taken_for_one() {
        let at = |at: usize, magic: &[u8]| [vec![0; at], magic.to_vec(), vec![0; 99]].concat();
        for (magic, told) in [
            (at(0, b"PK\x03\x04"), "unzip -p FILE"),
            (at(0, b"7z\xbc\xaf\x27\x1c"), "7z e"),
            (at(64, b"\x7f\x10\xda\xbe"), "VDI"),
            (at(0, b"COWD"), "VMDK"),
            (at(0, b"vhdxfile"), "VHDX"),
            (at(32_769, b"CD001"), "content_type = \"iso\""),
        ] {
            refused("block", "disk.img", &magic, told);
        }
        is("iso", "cd.iso", &at(32_769, b"CD001"), Form::Iso);
        // Incus unpacks these, and says whether a backup is in them.
        for magic in [b"\x5d\0\0\x80".as_slice(), b"\x04\x22\x4d\x18"] {
            is("block", "backup", &at(0, magic), Form::Backup);
            refused("block", "disk.raw.x", &at(0, magic), "Unpack it");
            refused("iso", "cd", &at(0, magic), "Unpack it");
        }
    }
}
