"""A function over texts, in batches of like length."""


def map_by_length(function, texts, batch_size, *beside):
    """Applies a function to batches of texts of like length: less padding than in their order.

    Args:
        function: from a list of at most `batch_size` texts, and as many of each of `beside`, to as
            many answers.
        texts: list of N texts.
        batch_size: int.
        *beside: further lists of N.

    Returns:
        list of N answers, in the order of `texts`.
    """
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    answers = [None] * len(texts)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        given = ([each[i] for i in rows] for each in (texts, *beside))
        for i, answer in zip(rows, function(*given), strict=True):
            answers[i] = answer
    return answers
