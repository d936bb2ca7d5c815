//! The full screen: what is shown, and what keys change of it.

use std::time::Duration;

use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Row, Table as Grid};

use super::super::view::clean;
use super::rates::{Order, Rates};
use super::table::{self, Table};

/// Lines that a page scrolls.
const PAGE: usize = 10;
/// The columns of names take what the others leave; this much if there is as much.
const WIDEST_TEXT: usize = 24;

/// What is on the screen.
#[derive(Debug)]
pub(super) struct Screen {
    rates: Rates,
    every: Duration,
    order: Order,
    focus: Focus,
    /// Lines above the first one shown, of peers and of containers.
    above: [usize; 2],
    /// Why there are no newer rates.
    trouble: Option<String>,
}

/// What the arrows scroll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Focus {
    Peers,
    Containers,
}

impl Screen {
    /// A screen that begins with these.
    pub(super) fn new(rates: Rates, every: Duration) -> Self {
        let mut screen = Self {
            rates,
            every,
            order: Order::Rate,
            focus: Focus::Peers,
            above: [0; 2],
            trouble: None,
        };
        screen.arrange();
        screen
    }

    /// Shows newer rates.
    pub(super) fn show(&mut self, rates: Rates) {
        self.rates = rates;
        self.trouble = None;
        self.arrange();
    }

    /// Says why there are none.
    pub(super) fn complain(&mut self, why: String) {
        self.trouble = Some(why);
    }

    /// Takes a key; false when it ends the program.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "there are more keys than mean something here"
    )]
    pub(super) fn press(&mut self, key: KeyEvent) -> bool {
        if key.kind == KeyEventKind::Release {
            return true;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let [peers, containers] = &mut self.above;
        let above = match self.focus {
            Focus::Peers => peers,
            Focus::Containers => containers,
        };
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Char('c') if control => return false,
            KeyCode::Char('s') => {
                self.order = match self.order {
                    Order::Rate => Order::Total,
                    Order::Total => Order::Name,
                    Order::Name => Order::Rate,
                };
            }
            KeyCode::Tab => {
                self.focus = match self.focus {
                    Focus::Peers => Focus::Containers,
                    Focus::Containers => Focus::Peers,
                };
            }
            KeyCode::Char('p') => self.focus = Focus::Peers,
            KeyCode::Char('c') => self.focus = Focus::Containers,
            KeyCode::Up => *above = above.saturating_sub(1),
            KeyCode::Down => *above += 1,
            KeyCode::PageUp => *above = above.saturating_sub(PAGE),
            KeyCode::PageDown => *above += PAGE,
            _ => {}
        }
        self.arrange();
        true
    }

    /// Sorts, and scrolls no further than to the last line.
    fn arrange(&mut self) {
        self.rates.sort(self.order);
        let counts = [self.rates.peers.len(), self.rates.containers.len()];
        for (above, count) in self.above.iter_mut().zip(counts) {
            *above = (*above).min(count.saturating_sub(1));
        }
    }

    /// Draws all of it.
    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let rows = Layout::vertical([
            Constraint::Length(2),
            Constraint::Fill(1),
            Constraint::Length(1),
            Constraint::Fill(1),
            Constraint::Length(2),
        ]);
        let [top, peers, _, containers, bottom] = rows.areas(frame.area());
        frame.render_widget(self.title(), top);
        let [peers_above, containers_above] = self.above;
        let is_focused = |focus| self.focus == focus;
        let table = table::peers(&self.rates);
        draw_table(frame, peers, &table, peers_above, is_focused(Focus::Peers));
        let table = table::containers(&self.rates);
        let focused = is_focused(Focus::Containers);
        draw_table(frame, containers, &table, containers_above, focused);
        frame.render_widget(self.foot(), bottom);
    }

    fn title(&self) -> Line<'static> {
        let rates = &self.rates;
        let host = clean(&format!("{}({})", rates.name, rates.nickname));
        let (peers, containers) = (rates.peers.len(), rates.containers.len());
        let seconds = self.every.as_secs();
        Line::from(format!(
            "weave top  {host}  peers: {peers}  containers: {containers}  every {seconds} s"
        ))
    }

    fn foot(&self) -> Text<'static> {
        let order = match self.order {
            Order::Rate => "rate",
            Order::Total => "total",
            Order::Name => "name",
        };
        let keys = Line::from(format!(
            "q quit   s sort, now by {order}   Tab other table   ↑ ↓ scroll"
        ));
        let trouble = self.trouble.as_deref().unwrap_or_default();
        let trouble = clean(&trouble.replace('\n', "; "));
        let warning = Style::new().add_modifier(Modifier::BOLD);
        Text::from(vec![Line::styled(trouble, warning), keys])
    }
}

/// Draws the lines of a table that there is room for, from one on.
fn draw_table(frame: &mut Frame<'_>, area: Rect, table: &Table, above: usize, is_focused: bool) {
    let widths = table.widths().into_iter().enumerate();
    let widths = widths.map(|(at, width)| match at < table.texts {
        true => Constraint::Max(u16::try_from(width.min(WIDEST_TEXT)).unwrap_or(u16::MAX)),
        false => Constraint::Length(u16::try_from(width).unwrap_or(u16::MAX)),
    });
    let cells = |row: &[String]| {
        let cells = row.iter().enumerate();
        let cells = cells.map(|(at, cell)| {
            let side = match at < table.texts {
                true => Alignment::Left,
                false => Alignment::Right,
            };
            Cell::from(Text::from(cell.clone()).alignment(side))
        });
        Row::new(cells.collect::<Vec<_>>())
    };
    let header: Vec<_> = table.header.iter().map(|it| (*it).to_owned()).collect();
    let style = match is_focused {
        true => Modifier::REVERSED,
        false => Modifier::UNDERLINED,
    };
    let rows = table.rows.iter().skip(above).map(|row| cells(row));
    let grid = Grid::new(rows, widths)
        .column_spacing(2)
        .header(cells(&header).style(Style::new().add_modifier(style)));
    frame.render_widget(grid, area);
}
