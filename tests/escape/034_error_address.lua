-- Attack: Learn an address from an error's message.
error({})
