//! The known answers of `tests/vectors/`, for every door to be held against.
