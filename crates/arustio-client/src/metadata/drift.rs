//! Clocks that run at different rates.
//!
//! A lease is counted by its holder and by the service, the end of a request by its sender,
//! by the store and by the service. None of them shows its clock to another: each counts a
//! span from a moment that both know, and on another clock that span is a little longer
//! or shorter. The bound: while one clock advances by sixteen, no other advances by less
//! than fifteen (P5). Quartz is wrong by one in ten thousand; the rest is for clocks that
//! are being slewed and for virtual machines.
//!
//! What is rounded is rounded to the safe side: the service counts whole milliseconds, and
//! may begin and end with a part of one.

use std::time::Duration;

/// Of so many parts of a span, clocks may disagree about one.
const PARTS: u32 = 16;
/// What both ends of a span may lose where milliseconds are counted.
const ROUNDED: Duration = Duration::from_millis(2);

/// What our clock may show so that another one has certainly not shown `span` yet.
pub(crate) fn within(span: Duration) -> Duration {
    (span - span / PARTS).saturating_sub(ROUNDED)
}

/// What another clock has to show so that ours has certainly shown `span`; and the other
/// way round. Nothing stays nothing.
pub(crate) fn beyond(span: Duration) -> Duration {
    if span.is_zero() {
        return span;
    }
    let nanos = span.as_nanos().div_ceil(u128::from(PARTS) - 1);
    let more = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
    span.saturating_add(more).saturating_add(ROUNDED)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a clock shows that runs at sixteen to fifteen of another one.
    fn fast(span: Duration) -> Duration {
        span * 16 / 15
    }

    #[test]
    fn p5_a_span_is_never_shorter_on_the_clock_that_has_to_wait_for_it() {
        for millis in [0, 1, 2, 7, 50, 999, 20_000, 60_000, 960_000] {
            let span = Duration::from_millis(millis);
            // The fast clock counts for the slow one, and the slow one for the fast one.
            assert!(beyond(span) >= fast(span), "{span:?}");
            assert!(fast(within(span)) <= span, "{span:?}");
            assert!(within(span) <= span && beyond(span) >= span, "{span:?}");
        }
        assert_eq!(beyond(Duration::ZERO), Duration::ZERO);
        assert!(beyond(Duration::MAX) == Duration::MAX);
    }
}
