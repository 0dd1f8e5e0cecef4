"""Tests of the native kernels: every compiled instruction set against the scalar one."""
