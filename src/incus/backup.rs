//! A disk as the backup of a custom block volume: a tarball of `backup/index.yaml` and `backup/volume.img`, which is all
//! that Incus takes disks in (6.0 to 7.3). Pure.

/// A block of a tarball, in bytes.
const BLOCK: usize = 512;
/// Block volumes are multiples of it: what `dir` and `btrfs` round to, and the smallest block of a ZFS volume.
const DISK_BLOCK: u64 = 8192;
/// From here on a length has no room in octal digits.
const OCTAL_END: u64 = 1 << 33;

/// A backup around a disk whose bytes come later: `head`, the disk, `tail`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Everything before the disk.
    pub head: Vec<u8>,
    /// Everything after it; zeros that fill up its last block, and the end of the tarball.
    pub tail: Vec<u8>,
    /// The length of the volume, in bytes.
    pub disk_bytes: u64,
}

impl Frame {
    /// Around a disk of `length` bytes. `created` is the time of its making, as RFC 3339 has it.
    pub fn of_disk(name: &str, length: u64, created: &str) -> Self {
        let disk_bytes = length.div_ceil(DISK_BLOCK).saturating_mul(DISK_BLOCK);
        let index = serde_json::json!({
            "name": name,
            "backend": "dir",
            "pool": "default",
            "type": "custom",
            "optimized": false,
            "optimized_header": false,
            "config": { "volume": {
                "name": name,
                "type": "custom",
                "content_type": "block",
                "description": "",
                "created_at": created,
                "config": { "size": disk_bytes.to_string() },
            }},
        });
        // JSON is YAML.
        let index = index.to_string().into_bytes();
        let mut head = header("backup/index.yaml", index.len() as u64);
        head.extend(&index);
        head.resize(head.len().next_multiple_of(BLOCK), 0);
        head.extend(header("backup/volume.img", disk_bytes));
        // The padding of the disk is less than a block of it; two empty blocks end a tarball.
        let padding = usize::try_from(disk_bytes.saturating_sub(length)).unwrap_or_default();
        Self { head, tail: vec![0; padding + 2 * BLOCK], disk_bytes }
    }

    /// The length of the backup around a disk of `length` bytes.
    pub fn bytes(&self, length: u64) -> u64 {
        length.saturating_add((self.head.len() + self.tail.len()) as u64)
    }
}

/// The header of a file in GNU's tar format.
fn header(name: &str, length: u64) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    if length < OCTAL_END {
        put(124, format!("{length:011o}\0").as_bytes());
    } else {
        put(124, &[0x80]);
        put(128, &length.to_be_bytes());
    }
    put(136, b"00000000000\0");
    // The checksum counts itself as spaces.
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar  \0");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_whole_blocks_and_its_own_length() {
        for length in [1, 512, 8192, 8193, 1 << 20] {
            let frame = Frame::of_disk("data", length, "2026-01-01T00:00:00Z");
            assert_eq!(frame.bytes(length) % BLOCK as u64, 0);
            assert!(frame.disk_bytes >= length && frame.disk_bytes - length < DISK_BLOCK);
            let text = String::from_utf8_lossy(&frame.head);
            assert!(text.contains(&format!("\"size\":\"{}\"", frame.disk_bytes)));
        }
    }

    #[test]
    fn tar_reads_what_is_framed() {
        let disk = vec![7; 10_000];
        let frame = Frame::of_disk("data", 10_000, "2026-01-01T00:00:00Z");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [frame.head, disk.clone(), frame.tail].concat()).unwrap();
        let tar = |arguments: &[&str]| {
            let output = std::process::Command::new("tar").args(arguments).arg("-f").arg(file.path()).output().unwrap();
            assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
            output.stdout
        };
        assert_eq!(tar(&["-t"]), b"backup/index.yaml\nbackup/volume.img\n");
        let image = tar(&["-xO", "--occurrence=1", "backup/volume.img"]);
        assert_eq!((image.len(), &image[..10_000]), (16384, &disk[..]));
        assert!(image[10_000..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_length_beyond_octal_is_written_in_binary() {
        let large = header("x", 1 << 40);
        assert_eq!((large[124], &large[128..136]), (0x80, &(1_u64 << 40).to_be_bytes()[..]));
        assert_eq!(&header("x", OCTAL_END - 1)[124..136], b"77777777777\0");
    }
}
