//! Reads a fuzzer's bytes as steps.

/// Bytes that have not been read yet.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next byte, or `None` at the end.
    pub(crate) fn next(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    /// The next byte; beyond the end it is zero.
    pub(crate) fn byte(&mut self) -> u8 {
        self.next().unwrap_or_default()
    }

    /// A number of two bytes, little-endian.
    pub(crate) fn number(&mut self) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }

    /// As many bytes as the number before them says, or as are left.
    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let len = self.number().min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }
}

/// Genuine bytes with some bits flipped, three bytes for each change: where, and what. A place
/// beyond the end makes them shorter or longer.
pub(crate) fn changed(genuine: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut bytes = genuine.to_vec();
    for change in changes.chunks_exact(3) {
        let [low, high, flip] = *change else { continue };
        let place = usize::from(u16::from_le_bytes([low, high]));
        match bytes.get_mut(place) {
            Some(byte) => *byte ^= flip,
            None => bytes.resize(place % 2048, flip),
        }
    }
    bytes
}
