//! Changes of the passwords of the mesh while the router runs.
//!
//! Invariant: a change is on the disk before it is in force, and one is made after the other.

use std::path::PathBuf;

use arc_swap::ArcSwap;
use weave_node::GenerationStatus;

use super::control::Control;
use crate::api::types::{PasswordChange, PasswordStatus};
use crate::api::{ApiError, ApiErrorKind};
use crate::cli::password;
use crate::passwords::{PasswordError, PasswordSet};

/// Keeps the passwords.
#[derive(Debug)]
pub(crate) struct Rotation {
    state_dir: PathBuf,
    control: Control,
    set: ArcSwap<PasswordSet>,
    /// Held by who changes them.
    changing: tokio::sync::Mutex<()>,
}

impl Rotation {
    /// With the passwords that the node began with.
    pub(crate) fn new(state_dir: PathBuf, control: Control, set: PasswordSet) -> Self {
        Self {
            state_dir,
            control,
            set: ArcSwap::from_pointee(set),
            changing: tokio::sync::Mutex::new(()),
        }
    }

    /// Whether a password is needed to join.
    pub(crate) fn is_protected(&self) -> bool {
        !self.set.load().is_open()
    }

    /// Makes one change. Returns the generation that it was about.
    ///
    /// # Errors
    /// When it makes no sense, sessions stand against it, or it cannot be stored; nothing has
    /// changed then.
    pub(crate) async fn change(&self, change: PasswordChange) -> Result<u16, ApiError> {
        let _changing = self.changing.lock().await;
        let mut set = PasswordSet::clone(&self.set.load());
        let generation = match change {
            PasswordChange::Add {
                generation,
                stretched,
            } => set.add(generation, stretched.into())?,
            PasswordChange::Use { generation } => {
                set.choose(generation)?;
                generation
            }
            PasswordChange::Remove { generation, force } => {
                set.remove(generation)?;
                if !force {
                    self.check_unused(generation).await?;
                }
                generation
            }
        };
        self.store(set.clone()).await?;
        let passwords = set.passwords().clone();
        self.set.store(set.into());
        self.control
            .call(move |node, now| node.set_passwords(passwords, now))
            .await?;
        Ok(generation)
    }

    /// The generations, as people are shown them.
    pub(crate) fn status(&self, generations: &[GenerationStatus]) -> Vec<PasswordStatus> {
        let set = self.set.load();
        let status = |one: &GenerationStatus| PasswordStatus {
            generation: one.generation,
            held: one.held,
            in_use: one.in_use,
            empty: set.is_empty(one.generation),
            sessions: u64::try_from(one.sessions).unwrap_or(u64::MAX),
        };
        generations.iter().map(status).collect()
    }

    async fn check_unused(&self, generation: u16) -> Result<(), ApiError> {
        let all = self.control.call(|node, _| node.passwords()).await?;
        let sessions = all.iter().find(|one| one.generation == generation);
        let count = sessions.map_or(0, |one| one.sessions);
        let rest = match count {
            0 => return Ok(()),
            1 => "1 session rests".to_owned(),
            _ => format!("{count} sessions rest"),
        };
        Err(ApiError::new(
            ApiErrorKind::Conflict,
            format!("{rest} on generation {generation}"),
        )
        .with_hint(
            "they move by themselves to the one in use where the peer has it, too: see `weave \
             status connections`; with --force those that cannot move end within 30 s",
        ))
    }

    /// The disk may be slow, and the control loop runs on this thread.
    async fn store(&self, set: PasswordSet) -> Result<(), ApiError> {
        let state_dir = self.state_dir.clone();
        let stored = tokio::task::spawn_blocking(move || password::store(&state_dir, &set)).await;
        let failed = match stored {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => format!("{error:#}"),
            Err(error) => error.to_string(),
        };
        Err(ApiError::new(ApiErrorKind::Internal, failed))
    }
}

impl From<PasswordError> for ApiError {
    fn from(error: PasswordError) -> Self {
        let kind = match error {
            PasswordError::Known(_)
            | PasswordError::Taken(_)
            | PasswordError::Full
            | PasswordError::NoNumber
            | PasswordError::InUse(_) => ApiErrorKind::Conflict,
            PasswordError::NotHeld(_) => ApiErrorKind::NotFound,
        };
        Self::new(kind, error.to_string()).with_hint(error.hint())
    }
}
