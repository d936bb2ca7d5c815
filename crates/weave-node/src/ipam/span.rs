//! Runs of consecutive numbers, for addresses and for chunks alike.
//!
//! Lists of spans are sorted and do not overlap.

use std::net::{IpAddr, Ipv4Addr};

use weave_wire::Cidr;

/// The numbers from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Span {
    pub(crate) first: u32,
    pub(crate) last: u32,
}

impl Span {
    /// A single number.
    pub(crate) const fn one(number: u32) -> Self {
        Self {
            first: number,
            last: number,
        }
    }

    /// The addresses of an IPv4 network.
    pub(crate) fn of(net: Cidr) -> Option<Self> {
        let (IpAddr::V4(first), IpAddr::V4(last)) = (net.first(), net.last()) else {
            return None;
        };
        Some(Self {
            first: first.to_bits(),
            last: last.to_bits(),
        })
    }

    /// How many numbers it holds.
    pub(crate) fn len(self) -> u64 {
        u64::from(self.last - self.first) + 1
    }

    /// Whether it holds this number.
    pub(crate) const fn contains(self, number: u32) -> bool {
        self.first <= number && number <= self.last
    }

    /// What both hold.
    pub(crate) fn intersect(self, other: Self) -> Option<Self> {
        let first = self.first.max(other.first);
        let last = self.last.min(other.last);
        (first <= last).then_some(Self { first, last })
    }
}

/// What is left of `spans` without `holes`, which may come in any order.
pub(crate) fn subtract(spans: Vec<Span>, holes: impl IntoIterator<Item = Span>) -> Vec<Span> {
    let holes = merged(holes);
    let mut left = Vec::new();
    for span in spans {
        let mut rest = Some(span);
        let start = holes.partition_point(|hole| hole.last < span.first);
        for hole in holes.get(start..).unwrap_or_default() {
            let Some(current) = rest else { break };
            let Some(cut) = current.intersect(*hole) else {
                break;
            };
            if cut.first > current.first {
                left.push(Span {
                    first: current.first,
                    last: cut.first - 1,
                });
            }
            rest = (cut.last < current.last).then(|| Span {
                first: cut.last + 1,
                last: current.last,
            });
        }
        left.extend(rest);
    }
    left
}

/// The same numbers as a list of spans that is sorted and does not overlap.
fn merged(spans: impl IntoIterator<Item = Span>) -> Vec<Span> {
    let mut spans: Vec<Span> = spans.into_iter().collect();
    spans.sort_unstable();
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match merged.last_mut() {
            Some(last) if span.first <= last.last => last.last = last.last.max(span.last),
            _ => merged.push(span),
        }
    }
    merged
}

/// How many numbers the spans hold together.
pub(crate) fn total(spans: &[Span]) -> u64 {
    spans.iter().map(|span| span.len()).sum()
}

/// Whether one of the spans holds this number.
pub(crate) fn any_contains(spans: &[Span], number: u32) -> bool {
    let after = spans.partition_point(|span| span.first <= number);
    after > 0
        && spans
            .get(after - 1)
            .is_some_and(|span| span.contains(number))
}

/// The address with these bits.
pub(crate) const fn ip_of(bits: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(bits)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn numbers(spans: &[Span]) -> BTreeSet<u32> {
        spans
            .iter()
            .flat_map(|span| span.first..=span.last)
            .collect()
    }

    fn any_span() -> impl Strategy<Value = Span> {
        (0..60u32, 0..12u32).prop_map(|(first, more)| Span {
            first,
            last: first + more,
        })
    }

    #[test]
    fn the_ends_of_the_number_space_are_no_trap() {
        let all = Span {
            first: 0,
            last: u32::MAX,
        };
        assert_eq!(all.len(), 1 << 32);
        let left = subtract(vec![all], [Span::one(0), Span::one(u32::MAX)]);
        assert_eq!(
            left,
            [Span {
                first: 1,
                last: u32::MAX - 1
            }]
        );
    }

    proptest! {
        #[test]
        fn subtracting_is_set_difference(
            one in any_span(),
            gap in 1..5u32,
            holes in proptest::collection::vec(any_span(), 0..8),
        ) {
            let two = Span { first: one.last + gap, last: one.last + gap + 20 };
            let left = subtract(vec![one, two], holes.clone());
            let expected: BTreeSet<u32> =
                numbers(&[one, two]).difference(&numbers(&holes)).copied().collect();
            prop_assert_eq!(&numbers(&left), &expected);
            prop_assert_eq!(total(&left), expected.len() as u64);
            prop_assert!(left.windows(2).all(|pair| pair[0].last < pair[1].first));
            for number in 0..100 {
                prop_assert_eq!(any_contains(&left, number), expected.contains(&number));
            }
        }
    }
}
