//! What `weave ping` and `weave doctor` find.

use serde::{Deserialize, Serialize};

/// `POST /ping`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PingRequest {
    /// A name, an address, or a peer.
    pub(crate) target: String,
}

/// `POST /stand-in`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StandInRequest {
    /// Name of the peer.
    pub(crate) peer: String,
}

/// The answer to `POST /ping`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PingReport {
    /// What was asked for.
    pub(crate) target: String,
    /// Its address, once found.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) address: Option<std::net::IpAddr>,
    /// Name and nickname of the peer that it is on, once found.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) peer: Option<String>,
    /// Layers, from the name to the container.
    pub(crate) layers: Vec<Layer>,
    /// How long the router of that peer took to answer, microseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) rtt_us: Option<u64>,
}

impl PingReport {
    /// The first layer that fails.
    pub(crate) fn failed(&self) -> Option<&Layer> {
        let mut layers = self.layers.iter();
        layers.find(|layer| layer.state == LayerState::Failed)
    }
}

/// One layer between here and a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layer {
    /// `name`, `address`, `path`, `router`, `bridge` or `container`.
    pub(crate) layer: String,
    /// How it is.
    pub(crate) state: LayerState,
    /// What was found, or why nothing was.
    pub(crate) detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) hint: Option<String>,
}

/// How a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LayerState {
    /// It works.
    Ok,
    /// It does not.
    Failed,
    /// It was not looked at.
    NotReached,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// Something does not work.
    Error,
    /// It works, but not as it could, or not for long.
    Warning,
    /// Good to know.
    Info,
}

/// Something that `weave doctor` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    /// How bad it is.
    pub(crate) level: Level,
    /// What was looked at; the same word in every version.
    pub(crate) check: String,
    /// What is wrong, and how that shows.
    pub(crate) message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) fix: Option<String>,
}

impl Finding {
    /// A finding without a fix.
    pub(crate) fn new(level: Level, check: &str, message: impl Into<String>) -> Self {
        Self {
            level,
            check: check.to_owned(),
            message: message.into(),
            fix: None,
        }
    }

    /// Something does not work.
    pub(crate) fn error(check: &str, message: impl Into<String>) -> Self {
        Self::new(Level::Error, check, message)
    }

    /// What must be kept cannot be.
    pub(crate) fn disk(message: impl Into<String>) -> Self {
        Self::error("disk", message)
            .with_fix("make room: `df -h /var/lib/weave`, or make the file system writable again")
    }

    /// It works, but not as it could, or not for long.
    pub(crate) fn warning(check: &str, message: impl Into<String>) -> Self {
        Self::new(Level::Warning, check, message)
    }

    /// Good to know.
    pub(crate) fn info(check: &str, message: impl Into<String>) -> Self {
        Self::new(Level::Info, check, message)
    }

    /// The same with what to do about it.
    pub(crate) fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}
