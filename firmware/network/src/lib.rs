//! int8 residual networks as tract operators.
