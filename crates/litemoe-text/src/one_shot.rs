use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectRepr};

/// Python generator, the result of filters such as `map` and `select`: always true, without a length, and each item comes
/// once.
pub(crate) struct OneShot(Mutex<VecDeque<Value>>);

impl OneShot {
    pub(crate) fn of(items: Vec<Value>) -> Value {
        Value::from_object(Self(Mutex::new(items.into())))
    }

    /// The items that are left, without taking them.
    pub(crate) fn left(&self) -> Vec<Value> {
        self.items().iter().cloned().collect()
    }

    fn items(&self) -> MutexGuard<'_, VecDeque<Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for OneShot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("generator")
    }
}

impl Object for OneShot {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Iter(Box::new(Taken(self.clone())))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        None
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }
}

/// Takes the items of a generator.
struct Taken(Arc<OneShot>);

impl Iterator for Taken {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        self.0.items().pop_front()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let n = self.0.items().len();
        (n, Some(n))
    }
}
