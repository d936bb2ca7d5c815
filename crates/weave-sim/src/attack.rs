//! A stranger on the network, who hears everything, and sends garbage in anybody's name.
//!
//! It knows no password. What it sends must change nothing, whatever it looks like.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use weave_crypto::message_len;
use weave_wire::{DatagramType, HandshakeHeader};

use crate::chance::Chance;
use crate::plan::Plan;
use crate::world::{Event, World};

/// Where the stranger is, and no host ever.
const OWN_IP: [u8; 4] = [192, 0, 2, 66];
/// Datagrams that the stranger remembers.
const REMEMBERED: usize = 128;
/// Of a thousand that it hears.
const HEARD_PERMILLE: u64 = 60;
/// Longest garbage.
const LONGEST: usize = 1_400;

/// A datagram: from, to, bytes.
type Packet = (SocketAddr, SocketAddr, Vec<u8>);

/// The stranger.
#[derive(Debug)]
pub(crate) struct Attacker {
    chance: Chance,
    heard: VecDeque<Packet>,
}

impl Attacker {
    /// One that has heard nothing.
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            chance: Chance::new(plan.seed, 10),
            heard: VecDeque::new(),
        }
    }

    /// A datagram passes by.
    pub(crate) fn hear(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        if !self.chance.permille(HEARD_PERMILLE) {
            return;
        }
        if self.heard.len() == REMEMBERED {
            self.heard.pop_front();
        }
        self.heard.push_back((from, to, bytes.to_vec()));
    }

    /// What it sends next, to one of these, perhaps in the name of one of them, and how much later.
    fn forge(&mut self, hosts: &[SocketAddr], own: SocketAddr) -> Option<(Packet, Duration)> {
        let to = *self.chance.pick(hosts)?;
        let from = *self.chance.pick(hosts)?;
        let index = self.chance.index(self.heard.len());
        let heard = self.heard.get(index).cloned();
        let (sender, receiver, bytes) = heard.unwrap_or_else(|| (from, to, vec![0x80; 40]));
        let at_once = Duration::ZERO;
        Some(match self.chance.below(7) {
            0 => ((own, to, self.noise()), at_once),
            1 => ((from, to, self.headed_noise()), at_once),
            2 | 3 => ((sender, receiver, self.mutated(bytes)), at_once),
            4 => ((own, receiver, self.mutated(bytes)), at_once),
            5 => ((sender, to, bytes), self.chance.millis(0, 3000)),
            _ => ((own, receiver, bytes), self.chance.millis(0, 3000)),
        })
    }

    fn noise(&mut self) -> Vec<u8> {
        let len = self.chance.index(LONGEST);
        (0..len).map(|_| self.byte()).collect()
    }

    /// Noise behind the header of some message of a handshake.
    fn headed_noise(&mut self) -> Vec<u8> {
        let types = [
            DatagramType::HandshakeInit,
            DatagramType::HandshakeReply,
            DatagramType::HandshakeFinish,
            DatagramType::CookieReply,
            DatagramType::Reject,
        ];
        let ty = self.chance.pick(&types).copied();
        let mut slot = || u32::try_from(self.chance.below(1 << 20)).unwrap_or(0);
        let header = HandshakeHeader {
            ty: ty.unwrap_or(DatagramType::Reject),
            generation: 0,
            sender: slot(),
            receiver: slot(),
        };
        let mut bytes = [header.encode().to_vec(), self.noise()].concat();
        // what has not the length of its type is not even looked at
        let right = message_len(header.ty).unwrap_or(bytes.len());
        if self.chance.permille(700) {
            let filler = self.byte();
            bytes.resize(right, filler);
        }
        bytes
    }

    fn mutated(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        for _ in 0..=self.chance.below(4) {
            let index = self.chance.index(bytes.len());
            match self.chance.below(6) {
                0 => bytes.truncate(index),
                1 => bytes.extend(self.noise().into_iter().take(40)),
                _ => {
                    let flipped = 1 << self.chance.below(8);
                    if let Some(byte) = bytes.get_mut(index) {
                        *byte ^= flipped;
                    }
                }
            }
        }
        bytes
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.chance.below(256)).unwrap_or(0)
    }
}

impl World {
    /// The stranger sends one datagram, and goes on as long as it is let.
    pub(crate) fn attack(&mut self) {
        let Some(pause) = self.attack_every else {
            return;
        };
        self.after(pause, Event::Attack);
        let own = SocketAddr::from((OWN_IP, weave_wire::PORT));
        let hosts: Vec<_> = (0..self.hosts.len())
            .filter_map(|host| self.network.address_of(host))
            .collect();
        let Some(((from, to, bytes), delay)) = self.attacker.forge(&hosts, own) else {
            return;
        };
        let (now, counters) = (self.now, &mut self.counters);
        let Some(to) = self.network.receiver_of(from, to, now, counters) else {
            return;
        };
        self.counters.forged += 1;
        self.after(delay, Event::Datagram { from, to, bytes });
    }
}
