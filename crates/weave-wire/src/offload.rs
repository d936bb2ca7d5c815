//! Frames that the kernel leaves unfinished: super-frames that are yet to be cut into segments,
//! and checksums that are yet to be summed over the payload.
//!
//! A TAP with a virtio header ([`VnetHeader`]) gives and takes both. [`Cutter`] cuts a super-frame
//! as the kernel would (Linux `tcp_gso_segment`, `__udp_gso_segment`); [`Joiner`] makes a run of
//! segments one super-frame again. Neither sums a payload: partial checksums (virtio 1.2, 5.1.6.2:
//! the field holds the sum of the pseudo-header) are kept partial, and only the length in them is
//! changed. Segments of one super-frame need no more than that to be joined: any run of
//! neighbours is a valid super-frame, so a loss costs one segment and not the whole.

mod checksum;
mod cut;
mod headers;
mod join;
mod virtio;

#[cfg(test)]
mod tests;

pub use checksum::{Checksum, complete, is_plain};
pub use cut::Cutter;
pub use join::Joiner;
pub use virtio::{Gso, Offload, VNET_HEADER_LEN, VnetHeader};

/// Why a frame with a virtio header cannot be carried. Nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OffloadError {
    /// The virtio header asks for something that was not offered.
    #[error("offload of an unknown type")]
    Unknown,
    /// The headers that the virtio header speaks of are not in the frame.
    #[error("the headers are not where the virtio header says")]
    Headers,
    /// Segments of no or of too little length.
    #[error("a super-frame of more segments than can be")]
    Size,
}
