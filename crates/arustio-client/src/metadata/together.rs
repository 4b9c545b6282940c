//! Questions that would wait are asked together.
//!
//! A question about a name costs the servers little and the way to them much. So at most
//! [`MOST_UNDER_WAY`] of them are under way at a time; whoever asks meanwhile waits, and
//! when one comes back, all who wait ask with one request. So do those who ask in the same
//! moment, as everybody does whose answers came together. Who is alone never waits, and what
//! is asked together was asked by everybody before it was sent, so an answer is as new as it
//! would have been (linearizable).
//!
//! Nobody works for others in the background: one of those who wait is told to ask for all.
//! If it stops, the others ask again.

use std::sync::Arc;

use arustio_proto::convert::MAX_QUESTIONS;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Requests under way at a time: one is read while the next one is answered.
const MOST_UNDER_WAY: usize = 2;

/// Who asks, and who waits. `Q`: a question; `A`: its answer.
#[derive(Debug)]
pub(super) struct Together<Q, A>(Arc<Mutex<State<Q, A>>>);

#[derive(Debug)]
struct State<Q, A> {
    under_way: usize,
    waiting: Vec<Waiter<Q, A>>,
}

/// Somebody who waits, with what it asks.
#[derive(Debug)]
struct Waiter<Q, A> {
    question: Q,
    word: oneshot::Sender<Word<Q, A>>,
}

#[derive(Debug)]
enum Word<Q, A> {
    /// Another one has asked.
    Answer(A),
    /// Ask, for these as well.
    Lead(Turn<Q, A>),
}

/// One of the requests that may be under way; it passes on to those who wait when it is
/// dropped.
#[derive(Debug)]
struct Turn<Q, A> {
    together: Together<Q, A>,
    others: Vec<Waiter<Q, A>>,
}

impl<Q, A> Clone for Together<Q, A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<Q, A> Default for Together<Q, A> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            under_way: 0,
            waiting: Vec::new(),
        })))
    }
}

impl<Q: Clone, A> Together<Q, A> {
    /// Asks one question. `ask` gets it first and those of others behind it; answers come
    /// in the same order, and whose answer is missing asks again.
    ///
    /// # Errors
    /// Those of `ask`. Others who were asked for see none of it and ask for themselves.
    pub(super) async fn ask<F, E>(
        &self,
        question: Q,
        ask: impl Fn(Vec<Q>) -> F + Send + Sync,
    ) -> Result<A, E>
    where
        F: Future<Output = Result<(A, Vec<A>), E>> + Send,
    {
        loop {
            let mut turn = match self.join(&question) {
                Ok(turn) => turn.gather().await,
                Err(word) => match word.await {
                    Ok(Word::Answer(answer)) => return Ok(answer),
                    Ok(Word::Lead(turn)) => turn,
                    // Who was to ask has stopped.
                    Err(_) => continue,
                },
            };
            let others = turn.others.iter().map(|other| other.question.clone());
            let questions = [question.clone()].into_iter().chain(others).collect();
            let (own, answers) = ask(questions).await?;
            turn.tell(answers);
            return Ok(own);
        }
    }

    /// The turn to ask, or where to wait for a word.
    fn join(&self, question: &Q) -> Result<Turn<Q, A>, oneshot::Receiver<Word<Q, A>>> {
        let mut state = self.0.lock();
        if state.under_way < MOST_UNDER_WAY {
            state.under_way += 1;
            return Ok(Turn {
                together: self.clone(),
                others: Vec::new(),
            });
        }
        let (word, heard) = oneshot::channel();
        state.waiting.push(Waiter {
            question: question.clone(),
            word,
        });
        Err(heard)
    }
}

impl<Q, A> Together<Q, A> {
    /// Who leads next, and the turn; `None` when nobody waits.
    fn next(&self) -> Option<(Waiter<Q, A>, Turn<Q, A>)> {
        let mut state = self.0.lock();
        state.waiting.retain(|waiter| !waiter.word.is_closed());
        if state.waiting.is_empty() {
            state.under_way -= 1;
            return None;
        }
        let count = state.waiting.len().min(MAX_QUESTIONS);
        let mut others: Vec<_> = state.waiting.drain(..count).collect();
        let first = others.remove(0);
        let together = self.clone();
        Some((first, Turn { together, others }))
    }
}

impl<Q, A> Turn<Q, A> {
    /// Lets those ask who can at this moment, as after an answer to all of them.
    async fn gather(mut self) -> Self {
        tokio::task::yield_now().await;
        let mut state = self.together.0.lock();
        let count = state.waiting.len().min(MAX_QUESTIONS - 1);
        self.others.extend(state.waiting.drain(..count));
        drop(state);
        self
    }

    fn tell(&mut self, answers: Vec<A>) {
        for (other, answer) in self.others.drain(..).zip(answers) {
            // It may have stopped waiting.
            let _ = other.word.send(Word::Answer(answer));
        }
    }
}

impl<Q, A> Drop for Turn<Q, A> {
    fn drop(&mut self) {
        // Those who got no answer ask again.
        self.others.clear();
        if let Some((first, turn)) = self.together.next() {
            // If it has stopped meanwhile, the turn comes back, is dropped and passes on.
            drop(first.word.send(Word::Lead(turn)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use futures::FutureExt as _;
    use futures::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    /// Answers ten times the question, when it may, and notes what was asked together.
    #[derive(Debug)]
    struct Server {
        may: Semaphore,
        seen: Mutex<Vec<Vec<u32>>>,
        /// How many of the questions it answers.
        answers: usize,
    }

    impl Server {
        fn new(may: usize, answers: usize) -> Self {
            Self {
                may: Semaphore::new(may),
                seen: Mutex::default(),
                answers,
            }
        }

        async fn ask(&self, questions: Vec<u32>) -> Result<(u32, Vec<u32>), Infallible> {
            self.seen.lock().push(questions.clone());
            self.may.acquire().await.unwrap().forget();
            let mut answers = questions.iter().map(|question| question * 10);
            let first = answers.next().unwrap();
            Ok((first, answers.take(self.answers - 1).collect()))
        }
    }

    async fn all(server: &Server, together: &Together<u32, u32>, count: u32) -> Vec<u32> {
        let ask = |question| together.ask(question, |questions| server.ask(questions));
        let answers = join_all((0..count).map(ask)).await;
        answers.into_iter().map(|answer| answer.unwrap()).collect()
    }

    #[tokio::test]
    async fn who_asks_while_two_are_under_way_asks_together() {
        let (server, together) = (Server::new(100, 100), Together::default());
        let answers = all(&server, &together, 6).await;
        assert_eq!(answers, [0, 10, 20, 30, 40, 50]);
        let seen = server.seen.lock().clone();
        assert_eq!(seen, [vec![0, 2, 3, 4, 5], vec![1]]);
        assert_eq!(together.0.lock().under_way, 0);
    }

    #[tokio::test]
    async fn a_request_carries_so_many_at_most() {
        let (server, together) = (Server::new(100, 100), Together::default());
        let count = u32::try_from(MAX_QUESTIONS).unwrap() * 3 + 5;
        assert_eq!(all(&server, &together, count).await.len(), count as usize);
        let seen = server.seen.lock();
        let sizes: Vec<usize> = seen.iter().map(Vec::len).collect();
        assert_eq!(sizes, [MAX_QUESTIONS, MAX_QUESTIONS, MAX_QUESTIONS, 5]);
    }

    #[tokio::test]
    async fn who_is_not_answered_asks_again() {
        let (server, together) = (Server::new(100, 1), Together::default());
        let answers = all(&server, &together, 5).await;
        assert_eq!(answers, [0, 10, 20, 30, 40]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_passes_its_turn_on_whether_it_asks_or_waits() {
        let (server, together) = (Server::new(0, 100), Together::default());
        let ask = |question| {
            let (server, together) = (&server, &together);
            together
                .ask(question, |questions| server.ask(questions))
                .boxed()
        };
        let mut early = vec![ask(0), ask(1), ask(2), ask(3)];
        for _ in 0..2 {
            for asking in &mut early {
                assert!(asking.now_or_never().is_none());
            }
            tokio::task::yield_now().await;
        }
        let (late, stopped) = (early.pop().unwrap(), early);
        assert_eq!(server.seen.lock().len(), 2, "two have asked");
        drop(stopped);
        server.may.add_permits(1);
        let answer = tokio::time::timeout(Duration::from_secs(9), late).await;
        assert_eq!(answer.unwrap().unwrap(), 30);
        assert_eq!(together.0.lock().under_way, 0);
    }
}
