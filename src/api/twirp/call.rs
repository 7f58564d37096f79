//! A call of any service.

use axum::body::Bytes;
use prost::{Message, Name};

use super::access::Caller;
use super::encoding::Encoding;
use super::error::TwirpError;

/// One call, before its message is read.
pub(super) struct Call {
    pub(super) caller: Caller,
    pub(super) encoding: Encoding,
    pub(super) body: Bytes,
}

impl Call {
    /// Its message.
    ///
    /// # Errors
    /// When it is malformed.
    pub(super) fn message<M: Message + Name + Default>(&self) -> Result<M, TwirpError> {
        self.encoding.decode(self.body.clone())
    }
}
