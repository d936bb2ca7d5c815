//! What can be wrong with bytes or text that claim to be one of ours.

/// Why text or a message could not be read. Nothing has changed when one of these is returned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Text is not an address or identifier of the expected form.
    #[error("`{input}` is not {expected}")]
    Text {
        /// What was given.
        input: String,
        /// What would have been right, with an example.
        expected: &'static str,
    },
    /// A network address has bits set behind its prefix.
    #[error("`{given}` has host bits set; the network is `{network}`")]
    HostBits {
        /// What was given, in CIDR notation.
        given: String,
        /// The network that holds it, in CIDR notation.
        network: String,
    },
    /// A prefix is longer than the address has bits.
    #[error("prefix length {given} is too long, at most {most} is possible")]
    PrefixLen {
        /// What was given.
        given: u32,
        /// Number of bits of the address.
        most: u8,
    },
    /// A field of a message has a length that it cannot have.
    #[error("{field} is {len} bytes long, expected {expected}")]
    FieldLen {
        /// Name of the field.
        field: &'static str,
        /// Its length in bytes.
        len: usize,
        /// What was expected.
        expected: &'static str,
    },
    /// A field of a message has a value that it cannot have.
    #[error("{field} has no valid value")]
    FieldValue {
        /// Name of the field.
        field: &'static str,
    },
    /// A message or one of its parts is longer than the protocol allows.
    #[error("{field} holds {len}, at most {most} are allowed")]
    TooMany {
        /// Name of the field or message.
        field: &'static str,
        /// Bytes or elements found.
        len: usize,
        /// Bytes or elements allowed.
        most: usize,
    },
    /// A message is not valid protobuf.
    #[error("malformed message: {0}")]
    Malformed(#[from] prost::DecodeError),
}

/// Why a datagram was not read. Small and free of allocation: the data path counts these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum DatagramError {
    /// Shorter than its headers.
    #[error("datagram is too short")]
    TooShort,
    /// A handshake of another layout, or no version at all.
    #[error("datagram has another protocol version")]
    Version,
    /// A type that this version does not know, or not the one expected here.
    #[error("datagram has an unexpected type")]
    Type,
    /// A payload kind or lane that this version does not know.
    #[error("datagram has an unknown payload kind")]
    Kind,
    /// Bytes that must be zero are not.
    #[error("reserved bytes of the datagram are not zero")]
    Reserved,
    /// Fragment index and count contradict each other or the limits.
    #[error("fragment index or count is out of range")]
    Fragment,
}
