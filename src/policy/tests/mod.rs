//! What the rules promise: sentence by sentence of the product page, and against slow, obvious models.

mod hours;
mod model;
mod page;
mod world;
