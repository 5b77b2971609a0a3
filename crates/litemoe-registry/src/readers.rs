use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

/// Pool of connections that read.
#[derive(Debug)]
pub(crate) struct Readers {
    connections: Vec<Mutex<Connection>>,
    /// Indices of those that nobody uses.
    free: Mutex<Vec<usize>>,
    is_free: Condvar,
}

impl Readers {
    /// At least one connection.
    pub(crate) fn new(connections: Vec<Connection>) -> Self {
        let free = Mutex::new((0..connections.len()).collect());
        let connections = connections.into_iter().map(Mutex::new).collect();
        Self { connections, free, is_free: Condvar::new() }
    }

    /// Runs a function on a free connection; waits for one if there is none.
    pub(crate) fn with<T>(&self, read: impl FnOnce(&mut Connection) -> T) -> T {
        let lent = self.lend();
        let mut connection = lock(&self.connections[lent.index]);
        read(&mut connection)
    }

    fn lend(&self) -> Lent<'_> {
        let mut free = lock(&self.free);
        loop {
            match free.pop() {
                Some(index) => return Lent { readers: self, index },
                None => free = self.is_free.wait(free).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// A connection that is free again when this is dropped, also by a panic.
struct Lent<'a> {
    readers: &'a Readers,
    index: usize,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        lock(&self.readers.free).push(self.index);
        self.readers.is_free.notify_one();
    }
}

/// A panic drops a connection's transaction, which undoes it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
