//! What is sent: a file that can be read at any place, and its digest.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use fastport_seal::StreamSealer;
use fastport_wire::field::MAX_CHUNK;
use sha2::{Digest, Sha256};

use super::error::SendError;
use super::name::FileName;
use super::sealed;

/// A file to be sent, and what it is.
#[derive(Debug, Clone)]
pub struct FileSource {
    pub(super) file: Arc<File>,
    pub(super) name: FileName,
    pub(super) size: u64,
    pub(super) digest: [u8; 32],
    pub(super) is_directory: bool,
}

impl FileSource {
    /// Reads a regular file once for its digest, telling how far it is. The name is what receivers
    /// call it.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn read(
        file: File,
        name: &str,
        mut tell: impl FnMut(u64) + Send + 'static,
    ) -> Result<Self, SendError> {
        let name = FileName::parse(name).map_err(SendError::BadName)?;
        let hashed = tokio::task::spawn_blocking(move || {
            let (mut hash, mut at) = (Sha256::new(), 0);
            let mut buffer = vec![0; BLOCK];
            loop {
                match file.read_at(&mut buffer, at)? {
                    0 => break,
                    length => {
                        hash.update(buffer.get(..length).unwrap_or_default());
                        at += length as u64;
                        tell(at);
                    }
                }
            }
            io::Result::Ok((file, at, hash.finalize().into()))
        });
        let hashed = hashed.await.map_err(|_| SendError::Internal)?;
        let (file, size, digest) = hashed.map_err(|why| SendError::File(Arc::new(why)))?;
        Ok(Self { file: Arc::new(file), name, size, digest, is_directory: false })
    }

    /// The same as the archive of a directory ([`super::pack_directory`]), which receivers unpack.
    #[must_use]
    pub fn as_directory(self) -> Self {
        Self { is_directory: true, ..self }
    }

    /// What receivers call it.
    #[must_use]
    pub fn name(&self) -> &FileName {
        &self.name
    }

    /// Its bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The chunks that have the bytes from `at` on, exactly so many; sealed, if there is a sealer.
    pub(super) async fn chunks(
        &self,
        at: u64,
        length: usize,
        sealer: Option<Arc<StreamSealer>>,
    ) -> Result<Vec<Vec<u8>>, SendError> {
        let (file, size) = (Arc::clone(&self.file), self.size);
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, at)?;
            Ok(match sealer {
                Some(sealer) => sealed::seal(&sealer, at, &bytes, size),
                None => bytes.chunks(MAX_CHUNK).map(<[u8]>::to_vec).collect(),
            })
        });
        match read.await.map_err(|_| SendError::Internal)? {
            Ok(chunks) => Ok(chunks),
            Err(why) if io::Error::kind(&why) == io::ErrorKind::UnexpectedEof => {
                Err(SendError::Cut)
            }
            Err(why) => Err(SendError::File(Arc::new(why))),
        }
    }
}

/// Read at once for the digest.
const BLOCK: usize = 256 * 1024;
