"""Combining values: ``reducers`` by name, ``pairs`` one by one into a dict, ``pair_columns`` of numbers all at once;
``folds`` of records into states, ``column_states`` of columns of numbers; ``columns_read`` by operators.
"""
