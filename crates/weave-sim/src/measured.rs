//! Measurements of a mesh in stages: figures, and who hears of them while they are taken.

use std::time::Duration;

use crate::world::World;

/// One-way delay: 20 ms of round trip.
const DELAY: Duration = Duration::from_millis(10);

/// One result.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What it says.
    pub what: String,
    /// How much; none when it did not happen in time.
    pub value: Option<f64>,
    /// Of what.
    pub unit: &'static str,
    /// What the design asks for.
    pub bar: Option<f64>,
}

/// What a long measurement tells while it runs.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// This is measured next.
    Stage(&'a str),
    /// This was measured.
    Figure(&'a Figure),
}

/// A mesh, and what was measured of it.
pub(crate) struct Measured<T> {
    pub(crate) world: World,
    /// What this measurement is of.
    pub(crate) of: T,
    /// What has not happened after this long is not waited for.
    patience: Duration,
    figures: Vec<Figure>,
}

/// A stage, and its name.
pub(crate) type Stage<T> = (&'static str, fn(&mut Measured<T>));

impl<T> Measured<T> {
    /// A mesh with equal lines.
    pub(crate) fn new(mut world: World, of: T, patience: Duration) -> Self {
        world.network.level(DELAY);
        Self {
            world,
            of,
            patience,
            figures: Vec::new(),
        }
    }

    /// Takes all figures; `tell` hears of each at once.
    pub(crate) fn run(
        mut self,
        stages: &[Stage<T>],
        tell: &mut dyn FnMut(Progress<'_>),
    ) -> Vec<Figure> {
        for (stage, run) in stages {
            tell(Progress::Stage(stage));
            let before = self.figures.len();
            run(&mut self);
            for figure in self.figures.iter().skip(before) {
                tell(Progress::Figure(figure));
            }
        }
        self.figures
    }

    /// How long it takes until something holds, looked at so often.
    pub(crate) fn until(
        &mut self,
        look: Duration,
        holds: impl Fn(&Self) -> bool,
    ) -> Option<Duration> {
        let began = self.world.now;
        while !holds(self) {
            if self.world.now >= began + self.patience {
                return None;
            }
            self.world.run_for(look);
        }
        Some(self.world.now.saturating_sub(began))
    }

    pub(crate) fn time(&mut self, what: &str, took: Option<Duration>, bar: Option<f64>) {
        let value = took.map(|took| took.as_secs_f64());
        self.note(what, value, "s", bar);
    }

    pub(crate) fn figure(&mut self, what: &str, value: f64, unit: &'static str, bar: Option<f64>) {
        self.note(what, Some(value), unit, bar);
    }

    fn note(&mut self, what: &str, value: Option<f64>, unit: &'static str, bar: Option<f64>) {
        self.figures.push(Figure {
            what: what.to_owned(),
            value,
            unit,
            bar,
        });
    }
}
