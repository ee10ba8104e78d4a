"""Encoders that tasks build on: `decathlon pretrain TASK` trains one by the same loop as a task. A file each."""
