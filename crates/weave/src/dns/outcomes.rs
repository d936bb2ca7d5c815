//! How queries ended, counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use hickory_proto::op::{Metadata, ResponseCode};

/// How a query ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// With addresses or names of the mesh.
    Answered,
    /// The name is of the mesh, but has nothing of what was asked for.
    NoData,
    /// There is no such name in the mesh.
    NoSuchName,
    /// An answer from upstream was passed on.
    Forwarded,
    /// No server upstream answered.
    Failed,
    /// It was malformed, or asks what is never answered.
    Refused,
}

impl Outcome {
    const ALL: [Self; 6] = [
        Self::Answered,
        Self::NoData,
        Self::NoSuchName,
        Self::Forwarded,
        Self::Failed,
        Self::Refused,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::NoData => "no_data",
            Self::NoSuchName => "no_such_name",
            Self::Forwarded => "forwarded",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }

    fn of(metadata: &Metadata, answers: usize) -> Self {
        match (metadata.response_code, metadata.authoritative) {
            (ResponseCode::NoError, true) if answers > 0 => Self::Answered,
            (ResponseCode::NoError, true) => Self::NoData,
            (ResponseCode::NXDomain, true) => Self::NoSuchName,
            (ResponseCode::NoError | ResponseCode::NXDomain, false) => Self::Forwarded,
            (ResponseCode::ServFail, _) => Self::Failed,
            _ => Self::Refused,
        }
    }
}

/// Queries so far, by outcome.
#[derive(Debug, Default)]
pub(super) struct Outcomes([AtomicU64; Outcome::ALL.len()]);

impl Outcomes {
    /// Counts a query that ends so.
    pub(super) fn count(&self, metadata: &Metadata, answers: usize) {
        let outcome = Outcome::of(metadata, answers);
        if let Some(count) = self.0.get(outcome as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were, by name.
    pub(super) fn read(&self) -> BTreeMap<String, u64> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        let names = Outcome::ALL.iter().map(|outcome| outcome.name().to_owned());
        names.zip(counts).collect()
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{MessageType, OpCode};

    use super::*;

    #[test]
    fn each_way_to_end_has_its_counter() {
        let outcomes = Outcomes::default();
        for (code, authoritative, answers) in [
            (ResponseCode::NoError, true, 2),
            (ResponseCode::NoError, true, 0),
            (ResponseCode::NXDomain, true, 0),
            (ResponseCode::NoError, false, 0),
            (ResponseCode::ServFail, false, 0),
            (ResponseCode::FormErr, false, 0),
        ] {
            let mut metadata = Metadata::new(1, MessageType::Response, OpCode::Query);
            metadata.response_code = code;
            metadata.authoritative = authoritative;
            outcomes.count(&metadata, answers);
        }
        let counts = outcomes.read();
        assert_eq!(counts.len(), Outcome::ALL.len());
        assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    }
}
