"""The client: packs a program, asks for the allocation, follows the job, and finds it again from any shell."""
