use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::client::{Client, Peer};
use crate::turns::Turns;

/// Fair request queue: clients take turns, and so do the models of one client. A request enters before its job is
/// there; it leaves when its job is taken, or its place is dropped.
///
/// A full queue admits a request of a client that has fewer waiting requests than another one, and displaces that one's
/// newest; and so for the models of the client with the most.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    changed: Condvar,
    max_waiting: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    /// In order of arrival.
    entries: Vec<Entry<T>>,
    turns: Turns,
    next_id: u64,
    is_closed: bool,
}

#[derive(Debug)]
struct Entry<T> {
    id: u64,
    client: Client,
    job: Option<T>,
}

/// Place of a request in the queue.
#[derive(Debug)]
pub(crate) struct Place<T> {
    queue: Arc<Queue<T>>,
    id: u64,
}

impl<T> Queue<T> {
    pub(crate) fn new(max_waiting: usize) -> Arc<Self> {
        let waiting =
            Waiting { entries: Vec::new(), turns: Turns::default(), next_id: 0, is_closed: false };
        Arc::new(Self { waiting: Mutex::new(waiting), changed: Condvar::new(), max_waiting })
    }

    /// Takes a place, and the job of the displaced request, if one had to leave. `None` if the queue is full.
    pub(crate) fn enter(self: &Arc<Self>, client: Client) -> Option<(Place<T>, Option<T>)> {
        let mut waiting = self.lock();
        let mut displaced = None;
        if waiting.entries.len() >= self.max_waiting {
            let victim = waiting.displaceable(&client)?;
            displaced = waiting.entries.remove(victim).job;
        }
        let id = waiting.next_id;
        waiting.next_id += 1;
        waiting.entries.push(Entry { id, client, job: None });
        Some((Place { queue: self.clone(), id }, displaced))
    }

    /// Takes the next job; waits for one. `None` when the queue is closed and empty.
    pub(crate) fn next(&self) -> Option<T> {
        let mut waiting = self.lock();
        loop {
            if let Some(job) = waiting.take(|_, _| true) {
                return Some(job);
            }
            if waiting.is_closed {
                return None;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes the next job of those that fit; `None` if there is none.
    pub(crate) fn next_if(&self, fits: impl Fn(&Client, &T) -> bool) -> Option<T> {
        self.lock().take(fits)
    }

    /// Number of waiting requests.
    pub(crate) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Ends the wait of [`Self::next`].
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Drops all jobs, for nobody takes them any more.
    pub(crate) fn clear(&self) {
        let entries = std::mem::take(&mut self.lock().entries);
        drop(entries);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        // No method leaves the entries half changed when it panics.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Place<T> {
    /// Hands in the job. `false` if the request was displaced.
    pub(crate) fn fill(&self, job: T) -> bool {
        let mut waiting = self.queue.lock();
        let Some(entry) = waiting.entries.iter_mut().find(|entry| entry.id == self.id) else {
            return false;
        };
        entry.job = Some(job);
        self.queue.changed.notify_one();
        true
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        self.queue.lock().entries.retain(|entry| entry.id != self.id);
    }
}

impl<T> Waiting<T> {
    /// Removes the job whose turn it is among those that fit.
    fn take(&mut self, fits: impl Fn(&Client, &T) -> bool) -> Option<T> {
        let is_ready =
            |entry: &Entry<T>| entry.job.as_ref().is_some_and(|job| fits(&entry.client, job));
        let ready = self.entries.iter().enumerate().filter(|(_, entry)| is_ready(entry));
        // The first of the smallest: the one that came first.
        let (index, _) = ready.min_by_key(|(_, entry)| self.turns.last(&entry.client))?;
        let entry = self.entries.remove(index);
        self.turns.served(entry.client);
        entry.job
    }

    /// Index of the request that leaves for one of this client.
    fn displaceable(&self, newcomer: &Client) -> Option<usize> {
        let of_peer =
            |peer: &Peer| self.entries.iter().filter(|entry| entry.client.peer == *peer).count();
        let of_client =
            |client: &Client| self.entries.iter().filter(|entry| entry.client == *client).count();
        let n_most = self.entries.iter().map(|entry| of_peer(&entry.client.peer)).max()?;
        let n_own = of_peer(&newcomer.peer);
        let newest = |is_victim: &dyn Fn(&Client) -> bool| {
            self.entries.iter().rposition(|entry| is_victim(&entry.client))
        };
        if n_own + 1 < n_most {
            return newest(&|client| of_peer(&client.peer) == n_most);
        }
        let own = || self.entries.iter().filter(|entry| entry.client.peer == newcomer.peer);
        let n_most = own().map(|entry| of_client(&entry.client)).max()?;
        if of_client(newcomer) + 1 < n_most {
            return newest(&|client| client.peer == newcomer.peer && of_client(client) == n_most);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    type Job = (u8, &'static str, usize);

    fn enter(queue: &Arc<Queue<Job>>, job: Job) -> Option<(Place<Job>, Option<Job>)> {
        let (place, displaced) = queue.enter(Client::at(job.0, job.1))?;
        assert!(place.fill(job));
        Some((place, displaced))
    }

    #[test]
    fn clients_take_turns_and_so_do_their_models() {
        let queue = Queue::new(20);
        let jobs = [
            (1, "a", 0),
            (1, "a", 1),
            (1, "a", 2),
            (1, "b", 0),
            (2, "a", 0),
            (1, "b", 1),
            (2, "a", 1),
            (3, "c", 0),
        ];
        let places: Vec<_> = jobs.into_iter().map(|job| enter(&queue, job).unwrap()).collect();
        let order: Vec<_> = jobs.iter().map(|_| queue.next().unwrap()).collect();
        assert_eq!(
            order,
            [
                (1, "a", 0),
                (2, "a", 0),
                (3, "c", 0),
                (1, "b", 0),
                (2, "a", 1),
                (1, "a", 1),
                (1, "b", 1),
                (1, "a", 2),
            ]
        );
        drop(places);
    }

    #[test]
    fn a_client_that_comes_again_waits_for_those_that_are_there() {
        let queue = Queue::new(20);
        let _one = [(1, "a", 0), (1, "a", 1), (1, "a", 2)].map(|job| enter(&queue, job).unwrap());
        let _two = enter(&queue, (2, "a", 0)).unwrap();
        assert_eq!(queue.next(), Some((1, "a", 0)));
        assert_eq!(queue.next(), Some((2, "a", 0)));
        let _again = enter(&queue, (2, "a", 1)).unwrap();
        assert_eq!(queue.next(), Some((1, "a", 1)));
        assert_eq!(queue.next(), Some((2, "a", 1)));
    }

    #[test]
    fn a_dropped_place_frees_its_room_at_once() {
        let queue = Queue::new(2);
        let first = enter(&queue, (1, "a", 0)).unwrap();
        let _second = enter(&queue, (1, "a", 1)).unwrap();
        assert!(enter(&queue, (1, "a", 2)).is_none());
        drop(first);
        let _third = enter(&queue, (1, "a", 3)).unwrap();
        assert_eq!([queue.next(), queue.next()], [Some((1, "a", 1)), Some((1, "a", 3))]);
    }

    #[test]
    fn a_full_queue_displaces_the_newest_of_the_client_with_the_most() {
        let queue = Queue::new(4);
        let jobs = [(1, "a", 0), (1, "a", 1), (2, "a", 0), (1, "a", 2)];
        let _places = jobs.map(|job| enter(&queue, job).unwrap());
        let (_third, displaced) = enter(&queue, (3, "a", 0)).unwrap();
        assert_eq!(displaced, Some((1, "a", 2)));
        // 1 has two, 2 and 3 have one each: a second request of 2 would only turn the tables.
        assert!(enter(&queue, (2, "a", 1)).is_none());
        assert!(enter(&queue, (1, "a", 3)).is_none());
    }

    #[test]
    fn and_the_newest_of_the_model_with_the_most() {
        let queue = Queue::new(3);
        let _places = [0, 1, 2].map(|n| enter(&queue, (1, "a", n)).unwrap());
        let (_other, displaced) = enter(&queue, (1, "b", 0)).unwrap();
        assert_eq!(displaced, Some((1, "a", 2)));
        assert!(enter(&queue, (1, "b", 1)).is_none());
    }

    #[test]
    fn a_request_without_a_job_keeps_its_place_and_can_be_displaced() {
        let queue = Queue::new(2);
        let (early, _) = queue.enter(Client::at(1, "a")).unwrap();
        let _second = enter(&queue, (1, "a", 1)).unwrap();
        assert_eq!(queue.next(), Some((1, "a", 1)));
        assert!(early.fill((1, "a", 0)));
        assert_eq!(queue.next(), Some((1, "a", 0)));
        let (first, _) = queue.enter(Client::at(1, "a")).unwrap();
        let (second, _) = queue.enter(Client::at(1, "a")).unwrap();
        let (_other, displaced) = queue.enter(Client::at(2, "a")).unwrap();
        assert_eq!(displaced, None);
        assert!(first.fill((1, "a", 2)) && !second.fill((1, "a", 3)));
    }

    #[test]
    fn only_the_clients_that_fit_are_asked() {
        let queue = Queue::new(4);
        let _places = [(1, "a", 0), (1, "b", 0)].map(|job| enter(&queue, job).unwrap());
        assert_eq!(queue.next_if(|client, _| client.model == "c"), None);
        assert_eq!(queue.next_if(|client, _| client.model == "b"), Some((1, "b", 0)));
        assert_eq!(queue.next_if(|client, _| client.model == "b"), None);
        assert_eq!(queue.next_if(|_, _| true), Some((1, "a", 0)));
    }

    #[test]
    fn a_closed_queue_ends_the_wait() {
        let queue = Queue::<Job>::new(1);
        let waiting = thread::spawn({
            let queue = queue.clone();
            move || queue.next()
        });
        queue.close();
        assert_eq!(waiting.join().unwrap(), None);
    }
}
