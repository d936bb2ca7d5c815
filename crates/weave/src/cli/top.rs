//! `weave top`: what passes between this host and each peer, and in and out of its containers.
//!
//! Owns when the router is asked. [`rates`] makes rates of two answers, [`table`] words of those,
//! [`screen`] a full screen, which [`terminal`] shows.

mod rates;
mod screen;
mod table;
mod terminal;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ratatui::crossterm::event::{self, Event};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, channel, unbounded_channel};
use tokio::time::MissedTickBehavior;

use super::args::TopArgs;
use super::{block_on, failure, output};
use crate::api::client::Client;
use rates::{Look, Order, Rates};
use screen::Screen;
use terminal::Terminal;

/// Shows rates until a key or a signal ends it; once where nobody is there to press one.
///
/// # Errors
/// When no router runs, or the terminal cannot be used.
pub(crate) fn run(args: &TopArgs, socket: &Path) -> Result<()> {
    let client = Client::new(socket);
    let every = Duration::from_secs(args.interval);
    if !(args.once || args.json) && output::is_terminal() {
        return block_on(watch(client, every));
    }
    let rates = block_on(once(&client, every))?;
    if args.json {
        return output::json(&rates);
    }
    output::out_raw(&table::text(&rates));
    Ok(())
}

async fn once(client: &Client, every: Duration) -> Result<Rates> {
    let (before, began) = (look(client).await?, Instant::now());
    tokio::time::sleep(every).await;
    let after = look(client).await?;
    let mut rates = Rates::between(&before, &after, began.elapsed());
    rates.sort(Order::Rate);
    Ok(rates)
}

async fn look(client: &Client) -> Result<Look> {
    Ok(Look {
        report: client.fetch("/report").await?,
        containers: client.fetch("/ps").await?,
    })
}

async fn watch(client: Client, every: Duration) -> Result<()> {
    let (mut before, mut began) = (look(&client).await?, Instant::now());
    let mut screen = Screen::new(Rates::between(&before, &before, Duration::ZERO), every);
    let mut signals = signals()?;
    let mut looks = looks(client, every);
    let mut terminal = Terminal::begin().context("use the terminal")?;
    let mut events = events();
    loop {
        terminal.draw(&screen).context("draw on the terminal")?;
        tokio::select! {
            event = events.recv() => match event {
                Some(Event::Key(key)) if screen.press(key) => {}
                Some(Event::Key(_)) | None => return Ok(()),
                Some(_) => {}
            },
            _ = signals.recv() => return Ok(()),
            Some((after, at)) = looks.recv() => match after {
                Ok(after) => {
                    screen.show(Rates::between(&before, &after, at.saturating_duration_since(began)));
                    (before, began) = (after, at);
                }
                Err(error) => screen.complain(failure::render(&error)),
            },
        }
    }
}

/// What the router says, again and again, and when it was said. A router that does not answer keeps
/// nobody from leaving.
fn looks(client: Client, every: Duration) -> Receiver<(Result<Look>, Instant)> {
    let (sender, receiver) = channel(1);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let said = look(&client).await;
            if sender.send((said, Instant::now())).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// What is typed. The thread waits for it until the process ends.
fn events() -> UnboundedReceiver<Event> {
    let (sender, receiver) = unbounded_channel();
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.send(event).is_err() {
                return;
            }
        }
    });
    receiver
}

/// What ends a program that does not look out for it.
fn signals() -> Result<Receiver<()>> {
    let (sender, receiver) = channel(1);
    let kinds = [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
        SignalKind::quit(),
    ];
    for kind in kinds {
        let (mut signal, sender) = (signal(kind)?, sender.clone());
        tokio::spawn(async move {
            signal.recv().await;
            // whoever waits for it is gone, or has it from another one
            let _ = sender.send(()).await;
        });
    }
    Ok(receiver)
}

#[cfg(test)]
mod tests;
