//! The body of an answer while it is read. It is inflated here, so that a small answer cannot become an
//! unbounded one, and a large body counts against the room in memory until its last holder drops it.

use std::io::{self, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;

use super::answer_memory::{AnswerMemory, Reservation};

/// The largest ratio of inflated to sent bytes, …
pub(super) const MOST_INFLATED: usize = 100;

/// … after these bytes, which any answer may have.
const FREELY_INFLATED: usize = 64 * 1024;

/// Bytes of an answer above which it needs room among the large answers. It takes room for the largest answer
/// until its length is known.
const LARGE: usize = 1024 * 1024;

/// Compressed bytes that are inflated before the limits are checked again.
const PIECE: usize = 4 * 1024;

/// Why reading a body was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyRefusal {
    /// It is larger than `limit`.
    TooLarge,
    /// It inflates to more than [`MOST_INFLATED`] times what was sent.
    Inflates,
    /// It is not gzip.
    Malformed,
}

/// A body that is being read.
pub(super) struct BodyReader {
    memory: AnswerMemory,
    payer: Arc<str>,
    limit: usize,
    sent: usize,
    content: Content,
    reservation: Option<Reservation>,
}

enum Content {
    Plain(Bounded),
    Gzip(Box<MultiGzDecoder<Bounded>>),
}

/// A buffer that accepts at most `allowed` bytes.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    allowed: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if part.len() > self.allowed.saturating_sub(self.bytes.len()) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BodyReader {
    /// Returns an empty body of at most `limit` bytes, whose room counts for `payer`.
    pub(super) fn new(gzip: bool, limit: usize, memory: AnswerMemory, payer: Arc<str>) -> Self {
        let content = if gzip {
            Content::Gzip(Box::new(MultiGzDecoder::new(Bounded::default())))
        } else {
            Content::Plain(Bounded::default())
        };
        Self {
            memory,
            payer,
            limit,
            sent: 0,
            content,
            reservation: None,
        }
    }

    /// Adds the next bytes. A body that becomes large waits here for room.
    pub(super) async fn add(&mut self, chunk: &[u8]) -> Result<(), BodyRefusal> {
        for piece in chunk.chunks(PIECE) {
            self.sent = self.sent.saturating_add(piece.len());
            let by_ratio = FREELY_INFLATED.saturating_add(self.sent.saturating_mul(MOST_INFLATED));
            let allowed = self.limit.min(by_ratio);
            let written = match &mut self.content {
                Content::Plain(bounded) => {
                    bounded.allowed = self.limit;
                    bounded.write_all(piece)
                }
                Content::Gzip(decoder) => {
                    decoder.get_mut().allowed = allowed;
                    decoder.write_all(piece).and_then(|()| decoder.flush())
                }
            };
            written.map_err(|error| {
                let is_full = error.kind() == io::ErrorKind::QuotaExceeded;
                if is_full && allowed < self.limit {
                    BodyRefusal::Inflates
                } else if is_full {
                    BodyRefusal::TooLarge
                } else {
                    BodyRefusal::Malformed
                }
            })?;
            if self.reservation.is_none() && self.len() > LARGE {
                self.reservation = Some(self.memory.reserve(&self.payer, kib(self.limit)).await);
            }
        }
        Ok(())
    }

    fn len(&self) -> usize {
        match &self.content {
            Content::Plain(bounded) => bounded.bytes.len(),
            Content::Gzip(decoder) => decoder.get_ref().bytes.len(),
        }
    }

    /// Returns the whole body. A large one keeps its room until its last holder drops it.
    pub(super) fn finish(self) -> Result<Bytes, BodyRefusal> {
        let mut bytes = match self.content {
            Content::Plain(bounded) => bounded.bytes,
            // Some servers announce an empty body as gzip, for example in the answer to a write.
            Content::Gzip(_) if self.sent == 0 => Vec::new(),
            Content::Gzip(decoder) => decoder.finish().map_err(|_| BodyRefusal::Malformed)?.bytes,
        };
        let Some(mut reservation) = self.reservation else {
            return Ok(Bytes::from(bytes));
        };
        bytes.shrink_to_fit();
        reservation.shrink_to(kib(bytes.len()));
        Ok(Bytes::from_owner(ReservedBody {
            bytes,
            _reservation: reservation,
        }))
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

/// A large body with its room.
struct ReservedBody {
    bytes: Vec<u8>,
    _reservation: Reservation,
}

impl AsRef<[u8]> for ReservedBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::super::answer_memory::ANSWER_MEMORY_KIB;
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn packed(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    async fn read(body: &[u8], limit: usize) -> Result<Bytes, BodyRefusal> {
        let mut read = BodyReader::new(true, limit, AnswerMemory::default(), "contoso".into());
        for chunk in body.chunks(10_000) {
            read.add(chunk).await?;
        }
        read.finish()
    }

    #[tokio::test]
    async fn an_answer_that_inflates_too_much_is_refused_and_a_small_one_may() {
        let small = vec![b'x'; FREELY_INFLATED];
        assert_eq!(read(&packed(&small), 16 * MIB).await.unwrap(), small);
        let bomb = packed(&vec![b'x'; 16 * MIB]);
        assert_eq!(read(&bomb, 16 * MIB).await, Err(BodyRefusal::Inflates));
        assert_eq!(read(&packed(&small), 1_000).await, Err(BodyRefusal::TooLarge));
        assert_eq!(read(b"<html>", 16 * MIB).await, Err(BodyRefusal::Malformed));
        let complete = packed(b"cut");
        assert_eq!(
            read(&complete[..complete.len() - 4], MIB).await,
            Err(BodyRefusal::Malformed)
        );
        assert_eq!(read(b"", MIB).await.unwrap(), Bytes::new());
    }

    #[tokio::test]
    async fn large_bodies_take_room_as_long_as_anybody_holds_them() {
        let memory = AnswerMemory::default();
        let free = || memory.free_kib();
        let mut body = BodyReader::new(false, 16 * MIB, memory.clone(), "contoso".into());
        body.add(&vec![0; 2 * MIB]).await.unwrap();
        assert_eq!(free(), ANSWER_MEMORY_KIB - 16 * 1024);
        let bytes = body.finish().unwrap();
        assert_eq!(free(), ANSWER_MEMORY_KIB - 2 * 1024);
        let part = bytes.slice(10..20);
        drop(bytes);
        assert_eq!(free(), ANSWER_MEMORY_KIB - 2 * 1024);
        drop(part);
        assert_eq!(free(), ANSWER_MEMORY_KIB);
        let mut small = BodyReader::new(false, 16 * MIB, memory.clone(), "contoso".into());
        small.add(&vec![0; LARGE]).await.unwrap();
        assert_eq!(
            (small.finish().unwrap().len(), free()),
            (LARGE, ANSWER_MEMORY_KIB)
        );
    }
}
