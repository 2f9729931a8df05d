"""The command line of bnfold: options in, a library call, words out, an exit code."""
