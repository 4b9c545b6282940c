//! The arithmetic of ranges. Pure; all positions are bytes of the content.

use std::ops::Range;

/// What of `wanted` is not covered by `present` (ascending), in order.
pub(crate) fn gaps(
    wanted: &Range<u64>,
    present: impl Iterator<Item = Range<u64>>,
) -> Vec<Range<u64>> {
    let mut gaps = Vec::new();
    let mut at = wanted.start;
    for part in present {
        if part.start > at && at < wanted.end {
            gaps.push(at..part.start.min(wanted.end));
        }
        at = at.max(part.end);
    }
    if at < wanted.end {
        gaps.push(at..wanted.end);
    }
    gaps
}

/// Widens ranges to a grid, within `length`, and joins those that then touch.
pub(crate) fn widen(ranges: &[Range<u64>], grid: u64, length: u64) -> Vec<Range<u64>> {
    let mut wide: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        let start = range.start / grid * grid;
        let end = range.end.div_ceil(grid).saturating_mul(grid).min(length);
        match wide.last_mut() {
            Some(last) if start <= last.end => last.end = last.end.max(end),
            _ => wide.push(start..end),
        }
    }
    wide
}

/// Cuts a range at multiples of `part`; a range up to `whole` stays one.
pub(crate) fn segments(range: Range<u64>, part: u64, whole: u64) -> Vec<Range<u64>> {
    if range.end - range.start <= whole {
        return if range.is_empty() {
            Vec::new()
        } else {
            vec![range]
        };
    }
    let mut cut = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let end = ((at / part + 1) * part).min(range.end);
        cut.push(at..end);
        at = end;
    }
    cut
}

/// How many segments to have in flight: doubles with each one that was taken whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    now: usize,
    most: usize,
}

impl Window {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            now: 2.min(most),
            most,
        }
    }

    pub(crate) fn size(self) -> usize {
        self.now
    }

    pub(crate) fn grow(&mut self) {
        self.now = (self.now * 2).min(self.most);
    }
}

/// Whether random reads have turned into a sequential run, from how each one continues
/// the one before.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Pattern {
    end: u64,
    run: u32,
}

impl Pattern {
    /// Reads in a row after which whole blocks are worth fetching (R6).
    const RUN: u32 = 2;

    /// Notes a read and says whether it continues a run.
    pub(crate) fn sequential(&mut self, range: &Range<u64>) -> bool {
        self.run = if range.start == self.end && range.start > 0 {
            self.run.saturating_add(1)
        } else {
            0
        };
        self.end = range.end;
        self.run >= Self::RUN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn r6_a_small_read_is_widened_to_its_grid_and_no_further() {
        const KIB: u64 = 1 << 10;
        let grid = 256 * KIB;
        let one = |length| {
            let asked = 300 * KIB..301 * KIB;
            widen(std::slice::from_ref(&asked), grid, length).remove(0)
        };
        assert_eq!(one(1 << 30), grid..2 * grid);
        assert_eq!(one(400 * KIB), grid..400 * KIB);
        let neighbours = [0..1, grid..grid + 1, 5 * grid..5 * grid + 1];
        assert_eq!(
            widen(&neighbours, grid, 1 << 30),
            [0..2 * grid, 5 * grid..6 * grid]
        );
    }

    #[test]
    fn r6_small_objects_are_one_request_and_large_ones_are_cut_on_the_grid() {
        assert_eq!(segments(0..16, 8, 16).len(), 1);
        assert_eq!(segments(3..20, 8, 16), [3..8, 8..16, 16..20]);
        assert!(segments(5..5, 8, 16).is_empty());
    }

    #[test]
    fn runs_are_seen_after_two_continuations_and_end_with_a_seek() {
        let mut pattern = Pattern::default();
        assert!(!pattern.sequential(&(0..10)));
        assert!(!pattern.sequential(&(10..20)));
        assert!(pattern.sequential(&(20..30)));
        assert!(!pattern.sequential(&(500..510)));
    }

    proptest! {
        #[test]
        fn gaps_and_parts_tile_what_is_wanted(
            start in 0u64..50, len in 1u64..50,
            parts in proptest::collection::vec((0u64..100, 1u64..20), 0..6)
        ) {
            let wanted = start..start + len;
            let mut present: Vec<Range<u64>> =
                parts.into_iter().map(|(at, len)| at..at + len).collect();
            present.sort_by_key(|range| range.start);
            let gaps = gaps(&wanted, present.iter().cloned());
            for byte in wanted.clone() {
                let there = present.iter().any(|range| range.contains(&byte));
                let gap = gaps.iter().any(|range| range.contains(&byte));
                prop_assert!(there != gap, "{byte} {gaps:?} {present:?}");
            }
            prop_assert!(gaps.iter().all(|gap| gap.start >= wanted.start && gap.end <= wanted.end));
        }
    }
}
