//! Options that are one of a few words: as flags, in the environment and in the file.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use weave_node::PostQuantum;

/// Cipher of the traffic between hosts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CipherChoice {
    /// What the processors of both hosts do faster.
    #[default]
    Auto,
    /// ChaCha20-Poly1305, whatever the other host prefers.
    #[value(name = "chacha20-poly1305")]
    #[serde(rename = "chacha20-poly1305")]
    ChaCha20Poly1305,
    /// AES-256-GCM, unless the other host prefers ChaCha20-Poly1305.
    #[value(name = "aes-256-gcm")]
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm,
}

impl CipherChoice {
    /// Whether AES-256-GCM goes first: with instructions for AES and for carry-less products it is
    /// the faster one.
    pub(crate) fn prefers_aes(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Auto => {
                std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq")
            }
            #[cfg(target_arch = "aarch64")]
            Self::Auto => {
                std::arch::is_aarch64_feature_detected!("aes")
                    && std::arch::is_aarch64_feature_detected!("pmull")
            }
            #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
            Self::Auto => false,
            Self::ChaCha20Poly1305 => false,
            Self::Aes256Gcm => true,
        }
    }
}

/// Key exchange that withstands quantum computers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PqChoice {
    /// With the hosts that have it too.
    #[default]
    Prefer,
    /// Refuse hosts without it, and move no frame before it.
    Require,
    /// None.
    Off,
}

/// How much the router says in its log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogLevel {
    /// What goes wrong.
    Error,
    /// And what somebody should look after.
    #[value(alias = "warn")]
    Warning,
    /// And changes of state.
    #[default]
    Info,
    /// And why.
    Debug,
}

impl LogLevel {
    /// As filters of the log name it.
    pub(crate) const fn filter(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

impl From<PqChoice> for PostQuantum {
    fn from(choice: PqChoice) -> Self {
        match choice {
            PqChoice::Prefer => Self::Prefer,
            PqChoice::Require => Self::Require,
            PqChoice::Off => Self::Off,
        }
    }
}

/// A choice as it is typed.
pub(crate) fn name(choice: impl ValueEnum) -> String {
    choice
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}
