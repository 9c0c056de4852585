//! Messages of HTTP/1.1, read whole and kept as they came.

use std::io::{BufRead as _, BufReader, Error, ErrorKind, Read as _, Result};
use std::os::unix::net::UnixStream;

/// One request or answer, byte for byte.
pub(crate) struct Message {
    /// Head and body as they came over the wire.
    pub(crate) bytes: Vec<u8>,
    head: String,
    body_at: usize,
}

/// Which side a message comes from: an answer may end with its connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Answer,
}

impl Message {
    /// The next message; `None` where the connection ended before one began.
    pub(crate) fn read(from: &mut BufReader<UnixStream>, side: Side) -> Result<Option<Self>> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            if from.read_until(b'\n', &mut bytes)? == 0 {
                return if bytes.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        }
        let body_at = bytes.len();
        let head = String::from_utf8(bytes.clone()).map_err(Error::other)?;
        let mut message = Self { bytes, head, body_at };
        if message.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            message.read_chunks(from)?;
        } else if let Some(length) = message.header("content-length") {
            let length: u64 = length.parse().map_err(Error::other)?;
            if from.take(length).read_to_end(&mut message.bytes)? as u64 != length {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        } else if side == Side::Answer && !message.has_no_body() {
            from.read_to_end(&mut message.bytes)?;
        }
        Ok(Some(message))
    }

    fn read_chunks(&mut self, from: &mut BufReader<UnixStream>) -> Result<()> {
        loop {
            let mut line = Vec::new();
            from.read_until(b'\n', &mut line)?;
            self.bytes.extend(&line);
            let line = String::from_utf8(line).map_err(Error::other)?;
            let size = u64::from_str_radix(line.trim().split(';').next().unwrap_or_default(), 16);
            let size = size.map_err(Error::other)?;
            // The chunk and the line break behind it.
            if from.take(size + 2).read_to_end(&mut self.bytes)? as u64 != size + 2 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if size == 0 {
                return Ok(());
            }
        }
    }

    fn has_no_body(&self) -> bool {
        ["101", "204", "304"].contains(&self.word(1))
    }

    /// Whether the connection is no longer HTTP after this answer.
    pub(crate) fn switches(&self) -> bool {
        self.word(1) == "101"
    }

    /// A word of the first line.
    pub(crate) fn word(&self, index: usize) -> &str {
        self.head.lines().next().and_then(|line| line.split(' ').nth(index)).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The body, chunks not joined.
    pub(crate) fn body(&self) -> &[u8] {
        &self.bytes[self.body_at..]
    }

    /// The bytes up to the middle of the body; of the head, where there is none.
    pub(crate) fn half(&self) -> &[u8] {
        let body = self.bytes.len() - self.body_at;
        &self.bytes[..if body == 0 { self.body_at / 2 } else { self.body_at + body / 2 }]
    }
}
