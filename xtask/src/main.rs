//! Project chores.
fn main(){}
