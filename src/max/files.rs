//! The two steps of an upload and the download of an attachment: other hosts than the API's, which never see the bot token.

use bytes::Bytes;

/// A file that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    pub bytes: Bytes,
    /// Of `Content-Type`, without parameters; `application/octet-stream` where none is given.
    pub mime: String,
    /// Of `Content-Disposition`: the last part of a path, without control characters.
    pub name: Option<String>,
}
